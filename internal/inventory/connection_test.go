package inventory

import "testing"

func TestConnections(t *testing.T) {
	for text, want := range map[string]connection{
		"postgres://superapp:Sup3r@203.0.113.10:5432/accounts?sslmode=disable":      {engine: PostgreSQL, host: "203.0.113.10", port: 5432, name: "accounts", user: "superapp", encryption: "disable", password: true},
		"postgresql+asyncpg://u@db/x":                                               {engine: PostgreSQL, host: "db", name: "x", user: "u"},
		"redis://:pw@cache.example.com:6379/2":                                      {engine: Redis, host: "cache.example.com", port: 6379, name: "2", password: true},
		"rediss://cache:6380":                                                       {engine: Redis, host: "cache", port: 6380, encryption: "tls"},
		"mongodb+srv://u:p@cluster0.abc.mongodb.net/app?retryWrites=true":           {engine: MongoDB, host: "cluster0.abc.mongodb.net", name: "app", user: "u", password: true, encryption: "tls"},
		"mongodb://a:27017,b:27017/app":                                             {engine: MongoDB, host: "a", port: 27017, name: "app"},
		"jdbc:mysql://db.shop:3306/orders?useSSL=false&user=u&password=p":           {engine: MySQL, host: "db.shop", port: 3306, name: "orders", user: "u", encryption: "false", password: true},
		"jdbc:sqlserver://sql:1433;databaseName=d;user=sa;password=p;encrypt=true":  {engine: SQLServer, host: "sql", port: 1433, name: "d", user: "sa", encryption: "true", password: true},
		"jdbc:oracle:thin:scott/tiger@//ora:1521/orcl":                              {engine: Oracle, host: "ora", port: 1521, name: "orcl", user: "scott", password: true},
		"jdbc:oracle:thin:@ora:1521:orcl":                                           {engine: Oracle, host: "ora", port: 1521, name: "orcl"},
		"root:pw@tcp(mysql:3306)/users?parseTime=true":                              {engine: MySQL, host: "mysql", port: 3306, name: "users", user: "root", password: true},
		"Server=tcp:sqldata,1433;Initial Catalog=Orders;User Id=sa;Password=Pass@1": {engine: SQLServer, host: "sqldata", port: 1433, name: "Orders", user: "sa", password: true},
		"host=pg port=5433 user=u password=p dbname=d sslmode=require":              {engine: PostgreSQL, host: "pg", port: 5433, name: "d", user: "u", encryption: "require", password: true},
		"postgres://u:a/b#c@db:5432/x":                                              {engine: PostgreSQL, host: "db", port: 5432, name: "x", user: "u", password: true},
		"postgres://$(USER):$(PASSWORD)@db/x":                                       {engine: PostgreSQL, host: "db", name: "x", user: "$(USER)"},
		"http://accounts:8080/v1":                                                   {host: "accounts", port: 8080, name: "v1"},
		"say (see https://example.com).":                                            {host: "example.com"},
	} {
		got := connections(text)
		if len(got) != 1 {
			t.Errorf("%s: %+v", text, got)
			continue
		}
		c := got[0]
		c.scheme, c.secrets = "", nil
		if c.engine != want.engine || c.host != want.host || c.port != want.port || c.name != want.name || c.user != want.user || c.encryption != want.encryption || c.password != want.password {
			t.Errorf("%s:\n%+v\n%+v", text, c, want)
		}
	}
	for _, text := range []string{"a=b", "://", "host: x", "2024-01-01T00:00:00", "x=host", "--a=b --c=d", "key=value;other=1"} {
		if got := connections(text); len(got) != 0 {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestSecretNames(t *testing.T) {
	for name, want := range map[string]bool{
		"PASSWORD": true, "db_password": true, "MYSQL_ROOT_PASSWORD": true, "CARDS_KEY": true, "API_TOKEN": true, "apiKey": true, "clientSecret": true, "--mysql-password": true, "SESSION_KEY": true,
		"PASSWORD_FILE": false, "SECRET_NAME": false, "TOKEN_TTL": false, "AWS_ACCESS_KEY_ID": false, "PUBLIC_KEY": false, "KEYBOARD": false, "MAX_TOKENS": false, "TOKEN_URL": false, "PARTITION_KEY": false, "MONKEY": false,
	} {
		if secretName(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestImages(t *testing.T) {
	for text, want := range map[string]Image{
		"nginx":                      {Registry: "docker.io", Repository: "library/nginx"},
		"redis:7-alpine":             {Registry: "docker.io", Repository: "library/redis", Tag: "7-alpine"},
		"weaveworksdemos/user:0.4.7": {Registry: "docker.io", Repository: "weaveworksdemos/user", Tag: "0.4.7"},
		"localhost:5000/a/b":         {Registry: "localhost:5000", Repository: "a/b"},
		"registry.example.com/superapp/accounts@sha256:00": {Registry: "registry.example.com", Repository: "superapp/accounts", Digest: "sha256:00"},
		"": {Registry: "docker.io"},
	} {
		want.Text = text
		if got := parseImage(text); got.Registry != want.Registry || got.Repository != want.Repository || got.Tag != want.Tag || got.Digest != want.Digest {
			t.Errorf("%s: %+v", text, got)
		}
	}
	for text, want := range map[string]Engine{"redis:alpine": Redis, "bitnami/postgresql:16": PostgreSQL, "mongo": MongoDB, "mcr.microsoft.com/mssql/server:2022": SQLServer, "oliver006/redis_exporter": "", "weaveworksdemos/catalogue-db:0.3": "", "mysql/mysql-server": MySQL, "nginx": "", "dpage/pgadmin4": "", "mariadb:11": MariaDB, "rabbitmq:3-management": RabbitMQ} {
		if got := imageEngine(parseImage(text)); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestManaged(t *testing.T) {
	for host, want := range map[string][2]string{
		"db.abc123.me-south-1.rds.amazonaws.com":               {"rds", "me-south-1"},
		"prod.cluster-abc123.me-central-1.rds.amazonaws.com":   {"aurora", "me-central-1"},
		"master.cache.abc123.use1.cache.amazonaws.com":         {"elasticache", "us-east-1"},
		"clustercfg.c.abc.memorydb.eu-central-1.amazonaws.com": {"", ""},
		"x.postgres.database.azure.com":                        {"azure", ""},
		"db.example.com":                                       {"", ""},
	} {
		if product, region := managed(host); product != want[0] || region != want[1] {
			t.Errorf("%s: %s %s", host, product, region)
		}
	}
}
