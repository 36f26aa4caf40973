package inventory

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// maxEvidence is how much of a value is kept as evidence, in bytes: a line on a screen.
const maxEvidence = 200

// connection is an address with a scheme in a text: of a database or of anything else.
type connection struct {
	scheme string
	engine Engine // "" if the scheme is no database's
	host   string
	port   int
	name   string
	user   string
	// encryption is what the string says of it.
	encryption string
	// password says that one stands there, or stood there before it was masked.
	password bool
	// secrets are where passwords stand in the text: from, to.
	secrets [][2]int
}

// schemes are those of databases.
func schemeEngine(scheme string) Engine {
	scheme = strings.TrimPrefix(scheme, "jdbc:")
	base, _, _ := strings.Cut(scheme, "+") // postgresql+asyncpg, mongodb+srv
	switch base {
	case "postgres", "postgresql", "pgx", "postgis":
		return PostgreSQL
	case "mysql", "mysqlx", "mysql2":
		return MySQL
	case "mariadb":
		return MariaDB
	case "redis", "rediss", "valkey", "valkeys", "redis-sentinel":
		return Redis
	case "mongodb":
		return MongoDB
	case "sqlserver", "mssql":
		return SQLServer
	case "oracle":
		return Oracle
	case "cassandra":
		return Cassandra
	case "amqp", "amqps":
		return RabbitMQ
	case "kafka":
		return Kafka
	case "nats":
		return NATS
	case "memcached", "memcache":
		return Memcached
	}
	return ""
}

// enginePort is the port that an engine listens on if nothing else is said.
func enginePort(e Engine) int {
	switch e {
	case PostgreSQL:
		return 5432
	case MySQL, MariaDB:
		return 3306
	case Redis:
		return 6379
	case MongoDB:
		return 27017
	case SQLServer:
		return 1433
	case Oracle:
		return 1521
	case Cassandra:
		return 9042
	case Elasticsearch:
		return 9200
	case Memcached:
		return 11211
	case Kafka:
		return 9092
	case RabbitMQ:
		return 5672
	case NATS:
		return 4222
	case Etcd:
		return 2379
	}
	return 0
}

// portEngine is whose port that is. MariaDB shares MySQL's.
func portEngine(port int) Engine {
	for _, e := range []Engine{PostgreSQL, MySQL, Redis, MongoDB, SQLServer, Oracle, Cassandra, Elasticsearch, Memcached, Kafka, RabbitMQ, NATS, Etcd} {
		if enginePort(e) == port {
			return e
		}
	}
	return ""
}

// connections finds every address with a scheme in a text, and the data source names that
// have none: libpq's and ADO.NET's pairs, and Go's mysql form.
func connections(s string) []connection {
	var all []connection
	if strings.Contains(s, "://") {
		all = append(all, urls(s)...)
	}
	if strings.Contains(s, "jdbc:oracle:") || strings.Contains(s, "@tcp(") {
		all = append(all, oddities(s)...)
	}
	if strings.ContainsRune(s, '=') && len(all) == 0 {
		if c, ok := pairs(s); ok {
			all = append(all, c)
		}
	}
	return all
}

// endsURL says that a byte can not be part of an address in a text.
func endsURL(c byte) bool {
	return c <= ' ' || c == '"' || c == '\'' || c == '`' || c == '<' || c == '>' || c == '\\' || c == '|' || c == 0x7f
}

func schemeByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.' || c == ':'
}

func urls(s string) []connection {
	var all []connection
	for at := 0; ; {
		i := strings.Index(s[at:], "://")
		if i < 0 {
			return all
		}
		i += at
		begin := i
		for begin > at && schemeByte(s[begin-1]) {
			begin--
		}
		scheme := s[begin:i]
		if j := strings.LastIndex(scheme, "jdbc:"); j >= 0 {
			scheme = scheme[j:]
		} else {
			scheme = scheme[strings.LastIndexByte(scheme, ':')+1:]
		}
		end := i + 3
		for end < len(s) && !endsURL(s[end]) {
			end++
		}
		if scheme != "" {
			if c, ok := oneURL(strings.ToLower(scheme), s, i+3, end); ok {
				all = append(all, c)
			}
		}
		at = i + 3
		if !strings.Contains(s[at:end], "://") {
			at = end
		}
	}
}

// oneURL takes an address apart: s[from:to] is what follows its "//".
func oneURL(scheme, s string, from, to int) (connection, bool) {
	c := connection{scheme: scheme, engine: schemeEngine(scheme)}
	authority := s[from:to]
	cut := strings.IndexAny(authority, "/?#;")
	// A password may hold such a sign unescaped, as people write them: what has an @ behind
	// it, before anything that looks like a host's end, is still the password.
	if cut >= 0 {
		if at := strings.LastIndexByte(authority, '@'); at > cut && strings.IndexByte(authority[:cut], ':') >= 0 && authority[cut] != '?' && c.engine != "" {
			if rest := strings.IndexAny(authority[at:], "/?#;"); rest >= 0 {
				cut = at + rest
			} else {
				cut = len(authority)
			}
		}
	} else {
		cut = len(authority)
	}
	rest := authority[cut:]
	authority = authority[:cut]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		info := authority[:at]
		user, password, has := strings.Cut(info, ":")
		c.user = unescape(user)
		if has {
			c.secret(password, from+len(user)+1, from+at)
		}
		authority = authority[at+1:]
	}
	first, _, _ := strings.Cut(authority, ",") // several hosts of one database
	c.host, c.port = hostPort(first)
	restFrom := to - len(rest)
	if strings.HasPrefix(rest, "/") {
		name, _, _ := strings.Cut(rest[1:], "?")
		name, _, _ = strings.Cut(name, ";")
		name, _, _ = strings.Cut(name, "#")
		c.name = unescape(strings.TrimRight(name, ",.)]}"))
	}
	// Parameters: ?a=b&c=d, and SQL Server's ;a=b;c=d.
	if q := strings.IndexAny(rest, "?;"); q >= 0 {
		at := restFrom + q + 1
		for _, pair := range strings.FieldsFunc(rest[q+1:], func(r rune) bool { return r == '&' || r == ';' || r == '?' }) {
			i := strings.Index(s[at:to], pair)
			if i < 0 {
				break
			}
			at += i
			key, value, _ := strings.Cut(pair, "=")
			c.parameter(strings.ToLower(key), value, at+len(key)+1, at+len(pair))
			at += len(pair)
		}
	}
	switch scheme {
	case "rediss", "amqps", "valkeys", "mongodb+srv":
		c.encryption = "tls"
	}
	if c.host == "" && c.engine == "" && !c.password {
		return c, false
	}
	return c, true
}

// secret takes in a password that stands at from..to.
func (c *connection) secret(v string, from, to int) {
	if v == Masked {
		c.password = true
	} else if v != "" && !reference(v) {
		c.password = true
		c.secrets = append(c.secrets, [2]int{from, to})
	}
}

// parameter takes in one parameter of a connection string. The value stands at from..to.
func (c *connection) parameter(key, value string, from, to int) {
	switch strings.ReplaceAll(key, " ", "") {
	case "user", "username", "userid", "uid", "user_id":
		c.user = unescape(value)
	case "password", "pwd", "passwd", "sslpassword", "authtoken", "access_token", "token", "secret", "api_key", "apikey", "sharedaccesskey", "accountkey", "sig":
		c.secret(value, from, to)
	case "sslmode", "ssl-mode", "encrypt", "ssl", "tls", "usessl":
		c.encryption = value
	case "databasename", "database", "dbname", "initialcatalog", "db":
		c.name = unescape(value)
	case "host", "server", "datasource", "address", "addr":
		if c.host == "" {
			value = strings.TrimPrefix(value, "tcp:")
			if host, port, ok := strings.Cut(value, ","); ok { // SQL Server's port
				value = host + ":" + port
			}
			host, port := hostPort(value)
			c.host = host
			if port != 0 {
				c.port = port
			}
		}
	case "port":
		if n, err := strconv.Atoi(value); err == nil && n > 0 && n < 1<<16 {
			c.port = n
		}
	}
}

// oddities are forms that are like addresses: Oracle's thin driver and Go's for MySQL.
func oddities(s string) []connection {
	var all []connection
	const thin = "jdbc:oracle:"
	if i := strings.Index(s, thin); i >= 0 {
		rest := s[i+len(thin):]
		if at := strings.IndexByte(rest, '@'); at >= 0 {
			c := connection{scheme: "jdbc:oracle", engine: Oracle}
			begin := i + len(thin)
			if info := rest[:at]; strings.Contains(info, "/") { // thin:user/password@
				slash := strings.IndexByte(info, '/')
				c.user = info[strings.LastIndexByte(info[:slash], ':')+1 : slash]
				c.secret(info[slash+1:], begin+slash+1, begin+at)
			}
			target := strings.TrimPrefix(rest[at+1:], "//")
			end := 0
			for end < len(target) && !endsURL(target[end]) {
				end++
			}
			target = target[:end]
			target, c.name, _ = strings.Cut(target, "/")
			if parts := strings.Split(target, ":"); len(parts) == 3 { // host:port:sid
				target, c.name = parts[0]+":"+parts[1], parts[2]
			}
			c.host, c.port = hostPort(target)
			all = append(all, c)
		}
	}
	if i := strings.Index(s, "@tcp("); i >= 0 {
		begin := i
		for begin > 0 && !endsURL(s[begin-1]) && s[begin-1] != '=' {
			begin--
		}
		c := connection{scheme: "mysql", engine: MySQL}
		user, password, has := strings.Cut(s[begin:i], ":")
		c.user = user
		if has {
			c.secret(password, begin+len(user)+1, i)
		}
		rest := s[i+len("@tcp("):]
		if end := strings.IndexByte(rest, ')'); end >= 0 {
			c.host, c.port = hostPort(rest[:end])
			if after := rest[end+1:]; strings.HasPrefix(after, "/") {
				end := 1
				for end < len(after) && !endsURL(after[end]) && after[end] != '?' {
					end++
				}
				c.name = after[1:end]
			}
		}
		all = append(all, c)
	}
	return all
}

// pairs reads key=value forms: libpq's, with spaces between, and ADO.NET's, with semicolons.
func pairs(s string) (connection, bool) {
	if strings.ContainsAny(s, "\n\r") {
		return connection{}, false
	}
	separator := byte(' ')
	if strings.IndexByte(s, ';') >= 0 {
		separator = ';'
	}
	var c connection
	var hasHost, hasMore bool
	for from := 0; from <= len(s); {
		end := strings.IndexByte(s[from:], separator)
		if end < 0 {
			end = len(s)
		} else {
			end += from
		}
		key, value, ok := strings.Cut(s[from:end], "=")
		if ok {
			valueFrom := from + len(key) + 1
			k := strings.ToLower(strings.TrimSpace(key))
			switch strings.ReplaceAll(k, " ", "") {
			case "host", "server", "datasource", "address", "addr":
				hasHost = true
			case "database", "dbname", "initialcatalog", "user", "userid", "uid", "username", "password", "pwd", "sslmode":
				hasMore = true
			}
			c.parameter(k, value, valueFrom, end)
			switch k {
			case "initial catalog", "trustservercertificate", "multipleactiveresultsets":
				c.engine = SQLServer
			case "dbname", "sslmode":
				c.engine = PostgreSQL
			}
		}
		from = end + 1
	}
	if !hasHost || !hasMore || c.host == "" {
		return connection{}, false
	}
	if c.engine == "" {
		c.engine = portEngine(c.port)
	}
	c.scheme = "pairs"
	return c, true
}

// hostPort takes host:port apart, also [::1]:80 and a host alone.
func hostPort(s string) (string, int) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return cleanHost(strings.Trim(s, "[]")), 0
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n >= 1<<16 {
		n = 0
	}
	return cleanHost(host), n
}

// cleanHost is the host if it can be one, else "".
func cleanHost(h string) string {
	h = strings.TrimRight(h, ".,;)]}")
	for i := range len(h) {
		switch c := h[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == ':':
		default:
			return ""
		}
	}
	return strings.ToLower(h)
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// reference says that a value only names another: $(NAME), ${NAME}, {{ .Values.x }}, <password>.
func reference(v string) bool {
	v = strings.TrimSpace(v)
	switch {
	case strings.HasPrefix(v, "$(") && strings.HasSuffix(v, ")"), strings.HasPrefix(v, "${") && strings.HasSuffix(v, "}"),
		strings.HasPrefix(v, "{{") && strings.HasSuffix(v, "}}"), strings.HasPrefix(v, "<") && strings.HasSuffix(v, ">"),
		strings.HasPrefix(v, "$") && len(v) > 1 && !strings.ContainsAny(v[1:], "$!@#%^&*()-+=/ ") && strings.ToUpper(v) == v,
		v == Masked, strings.Trim(v, "*x") == "" && len(v) > 2, strings.HasPrefix(v, "%") && strings.HasSuffix(v, "%") && len(v) > 2:
		return true
	}
	return false
}
