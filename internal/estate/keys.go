package estate

import "reflect"

// keyWord is what the schema and the manual say of one key of the file.
type keyWord struct {
	key  string
	text string // what it does, as a sentence
	// standard is the default, as it would be written in the file; nil when there
	// is none of that kind, and without then says what holds without the key.
	standard any
	without  string
	example  string // as it is written in the file
	choices  []string
	pattern  string // of a text
	// least and most bound a number; 0 is no bound.
	least, most int
}

// required is what a key without which a file is refused says of its default.
const required = "required"

// typeWord is what the schema and the manual say of one type of the file.
type typeWord struct {
	of    reflect.Type
	title string // where it stands in the file
	text  string
	keys  []keyWord
}

// The forms of values, as JSON Schema's patterns.
const (
	nameForm     = `^[a-z][a-z0-9_-]*$`
	envForm      = `^[A-Za-z_][A-Za-z0-9_]*$`
	arnForm      = `^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]+:secret:.+$`
	tableForm    = `^[^.]+\..+$`
	absoluteForm = `^/.+$`
	pathForm     = `^/[^?#*% ]*$`
	upstreamForm = `^https?://[^/@?#]+(/[^?#]*)?$`
	durationForm = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
)

// typeWords are all types of the file with all their keys, in its order. A test
// sees to it that none is missing.
func typeWords() []typeWord {
	return []typeWord{
		{of: reflect.TypeFor[Estate](), title: "The file", text: "One move: what is moved, how the traffic follows, and what that may take.", keys: []keyWord{
			{key: "name", text: "Names this move. What it leaves on the servers while it is under way is named after it, so it must not change meanwhile, and two moves of the same server must not share it.", without: required, example: "bank-to-aws", pattern: nameForm, most: maxName},
			{key: "state", text: "The folder of the journal, the lock, the sockets and the reports. Relative to this file's folder.", standard: DefaultState, example: "/var/lib/dhow/bank"},
			{key: "databases", text: "The databases that move. They are fenced and cut over as one.", without: "required, unless there is a `landing`", example: "see below", least: 1, most: maxDatabases},
			{key: "gate", text: "The traffic gate, which holds requests during the cutover and then sends them to the target. Without it something else has to stop and move the traffic.", without: "no gate", example: "see below"},
			{key: "limits", text: "What the move may take from the servers.", without: "the defaults of its keys", example: "{copies: 2, connections: 12}"},
			{key: "cutover", text: "How the cutover is done, and when it is given up.", without: "the defaults of its keys", example: "{stall_budget: 500ms}"},
			{key: "landing", text: "The landing zone: where in AWS the application goes, for `dhow deploy`.", without: "no landing zone", example: "see below"},
		}},
		{of: reflect.TypeFor[Database](), title: "databases[]", text: "One database that moves. Of MariaDB and Redis it is a whole server, for its changes are one stream.", keys: []keyWord{
			{key: "name", text: "Names the database in this move: in reports, and in the names of what the move leaves on its servers. It need not be its name there.", without: required, example: "accounts", pattern: nameForm, most: maxName},
			{key: "engine", text: "The kind of server. Valkey is a redis here.", standard: string(PostgreSQL), example: string(MariaDB), choices: engines},
			{key: "source", text: "Where the data is. `dhow preflight` says what the source needs.", without: required, example: "see below"},
			{key: "target", text: "Where the data goes: of PostgreSQL an empty database that exists already, of MariaDB a server without databases of those names, of Redis an empty server.", without: required, example: "see below"},
			{key: "schemas", text: "The schemas that move; of MariaDB, the databases. Redis has none: all of a server's keys move.", without: "all but the system's", example: "[public, ledger]"},
			{key: "exclude", text: "Tables, as schema.table, that stay behind. Not of Redis.", without: "none", example: "[public.sessions]", pattern: tableForm},
			{key: "replication", text: "How the two servers of MariaDB reach each other: the target becomes a replica of the source, and after the cutover the source one of the target.", without: "as dhow reaches them, as the same users", example: "{user: replica, password: {env: REPLICA_PASSWORD}}"},
			{key: "roles", text: "The target's name for a role of the source, where it differs: owners and grants follow it. Other roles keep their names. Of PostgreSQL alone.", without: "no role is renamed", example: "{app_owner: app}"},
			{key: "limits", text: "Limits for this database alone; each key overrides that of the estate.", without: "the estate's", example: "{rows_per_second: 20000}"},
		}},
		{of: reflect.TypeFor[Replication](), title: "databases[].replication", text: "How one server of MariaDB reaches the other as its replica. The servers connect to each other, dhow only tells them to.", keys: []keyWord{
			{key: "user", text: "The user that a replica signs in as; it needs REPLICATION SLAVE, on both servers.", without: "each server's own `user`, with its password", example: "replica"},
			{key: "password", text: "Where that user's password is kept.", without: "no password is sent", example: "{env: REPLICA_PASSWORD}"},
			{key: "tls", text: "Encrypts what the servers send each other, and verifies who sends it.", without: "true where dhow's own connection to that server is encrypted", example: "true"},
			{key: "source", text: "Where the target finds the source.", without: "where dhow finds it", example: "{host: 10.0.0.5}"},
			{key: "target", text: "Where the source finds the target, for the way back.", without: "where dhow finds it", example: "{host: cards.abc.eu-central-1.rds.amazonaws.com}"},
		}},
		{of: reflect.TypeFor[Reach](), title: "databases[].replication.source, databases[].replication.target", text: "Where a server is, as the other one sees it.", keys: []keyWord{
			{key: "host", text: "Its name or address there.", without: "the endpoint's", example: "10.0.0.5"},
			{key: "port", text: "Its port there.", without: "the endpoint's", example: "3307", least: 1, most: maxPort},
			{key: "ca", text: "A file, in PEM form, of the authorities to trust, on the machine of the server that connects.", without: "that server's own trust", example: "/etc/mysql/source-ca.pem", pattern: absoluteForm},
		}},
		{of: reflect.TypeFor[Endpoint](), title: "databases[].source, databases[].target", text: "One end of a database, and how to sign in there. It is taken from here alone: PGHOST and its kin, .pgpass, option files and connection strings play no part.", keys: []keyWord{
			{key: "host", text: "The server's name or address; of PostgreSQL also the folder of its Unix socket, of MariaDB the socket itself. Name the server itself: a pooler or proxy in between does not pass replication on.", without: required, example: "db.example.com"},
			{key: "port", text: "The server's port.", without: "the engine's: `5432`, `3306` or `6379`", example: "6432", least: 1, most: maxPort},
			{key: "database", text: "The database's name on the server, of PostgreSQL alone: of MariaDB `schemas` names databases, and all of a Redis server moves.", without: "required for postgresql", example: "accounts"},
			{key: "user", text: "The role or user to sign in as. `dhow preflight` names what it lacks.", without: "required; of redis, the user `default`", example: "dhow"},
			{key: "password", text: "Where the user's password is kept, never the password itself.", without: "no password is sent", example: "{env: ACCOUNTS_SOURCE_PASSWORD}"},
			{key: "tls", text: "How the connection is secured.", without: "the defaults of its keys", example: "{ca: /etc/dhow/rds-global-bundle.pem}"},
			{key: "cluster", text: "The server is one of a Redis cluster: the others and their slots are asked of it.", standard: false, example: "true"},
		}},
		{of: reflect.TypeFor[TLS](), title: "databases[].source.tls, databases[].target.tls", text: "How a connection is secured, in libpq's words.", keys: []keyWord{
			{key: "mode", text: "verify-full checks that the certificate was issued by a trusted authority to this very host; verify-ca checks the authority alone; require encrypts, but to whoever answers; disable sends all in the clear.", without: "verify-full, but disable for a loopback address or a Unix socket without a ca", example: "verify-ca", choices: tlsModes},
			{key: "ca", text: "A file, in PEM form, of the authorities to trust. Relative to this file's folder. Amazon RDS needs it: its authorities are not the system's.", without: "the system's authorities", example: "rds-global-bundle.pem"},
		}},
		{of: reflect.TypeFor[Secret](), title: "databases[].source.password, databases[].target.password, databases[].replication.password, gate.token, landing.role.external_id", text: "Where a secret is kept: exactly one of env, file and arn. A secret in the clear is refused.", keys: []keyWord{
			{key: "env", text: "The name of the environment variable that holds it.", without: "none", example: "ACCOUNTS_SOURCE_PASSWORD", pattern: envForm},
			{key: "file", text: "The file that holds it and nothing else; a line end after it is dropped. Relative to this file's folder. Others must not be able to read it (chmod 600).", without: "none", example: "/run/secrets/accounts"},
			{key: "arn", text: "The secret of AWS Secrets Manager that holds it. The region is the ARN's, credentials come from the environment, as for every AWS tool.", without: "none", example: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:accounts-AbCdEf", pattern: arnForm},
			{key: "field", text: "The field to take when the secret of Secrets Manager is a JSON object.", without: "password, when it is an object; else the whole secret", example: "admin_password"},
		}},
		{of: reflect.TypeFor[Gate](), title: "gate", text: "The traffic gate: an HTTP reverse proxy in front of both sides.", keys: []keyWord{
			{key: "listen", text: "The address that clients are served on, as host:port; without a host, every address of the machine.", without: required, example: `":8080"`},
			{key: "control", text: "How the gate is steered: the path of a Unix socket, relative to this file's folder, or a loopback address as host:port, which needs a token. Who can reach it moves the traffic.", without: "gate.sock in the state's folder", example: "/run/dhow/gate.sock"},
			{key: "token", text: "Where the token that the control address asks for is kept.", without: "none", example: "{env: DHOW_GATE_TOKEN}"},
			{key: "metrics", text: "The address of the page of metrics, for Prometheus, as host:port.", without: "no such page", example: "127.0.0.1:9100"},
			{key: "routes", text: "What goes where. The longest path of the request's host wins; routes without a host come last.", without: required, example: "see below", least: 1},
			{key: "hold", text: "How much the gate may keep back during a cutover.", without: "the defaults of its keys", example: "{time: 2s}"},
		}},
		{of: reflect.TypeFor[Route](), title: "gate.routes[]", text: "Requests of one host and path, and the service that answers them on each side.", keys: []keyWord{
			{key: "name", text: "Names the route, in reports and metrics.", without: required, example: "payments", pattern: nameForm, most: maxName},
			{key: "host", text: "The host that requests name, without a port.", without: "any", example: "api.example.com"},
			{key: "path", text: "The beginning of the path, up to the end of a segment: /pay takes /pay and /pay/1, not /payments.", standard: DefaultPath, example: "/payments", pattern: pathForm},
			{key: "source", text: "The URL of the service on the source's side.", without: required, example: "http://10.0.0.5:8080", pattern: upstreamForm},
			{key: "target", text: "The URL of the service on the target's side; it works on the target databases.", without: required, example: "https://payments.internal.example.com", pattern: upstreamForm},
			{key: "h2c", text: "Speaks HTTP/2 in the clear to both services, as gRPC needs.", standard: false, example: "true"},
		}},
		{of: reflect.TypeFor[Hold](), title: "gate.hold", text: "What the gate may keep back during a cutover, over all routes.", keys: []keyWord{
			{key: "requests", text: "How many requests; those beyond are answered 503.", standard: DefaultHoldRequests, example: "2000", least: 1},
			{key: "bytes", text: "How much of their bodies is read ahead.", standard: DefaultHoldBytes.String(), example: "256MiB"},
			{key: "time", text: "After how long a hold ends by itself and the source goes on, should nobody end it. At most 1m.", standard: DefaultHoldTime.String(), example: "2s"},
		}},
		{of: reflect.TypeFor[Limits](), title: "limits, databases[].limits", text: "What a move may take from the servers, for each database. A limit of the estate holds for the engines that know it.", keys: []keyWord{
			{key: "copies", text: "How many streams copy tables at once. Not of Redis.", standard: DefaultCopies, example: "8", least: 1, most: maxParallel},
			{key: "lanes", text: "How many sessions apply changes at once. Of PostgreSQL alone: MariaDB's servers replicate by themselves, and a Redis server has one order of commands.", standard: DefaultLanes, example: "8", least: 1, most: maxParallel},
			{key: "chunk", text: "How large the pieces are that a large table is copied in. Not of Redis.", standard: DefaultChunk.String(), example: "256MiB"},
			{key: "rows_per_second", text: "How many rows, or keys, the copy takes in a second, over all streams; and of PostgreSQL and MariaDB, a comparison.", without: "unlimited", example: "50000", least: 1},
			{key: "connections", text: "How many connections the move holds to each server.", without: "as many as it needs", example: "12", least: minConnections},
			{key: "wal_warn", text: "How much log the source may keep for the move before it warns. Of PostgreSQL alone.", standard: DefaultWALWarn.String(), example: "2GiB"},
			{key: "wal_stop", text: "How much log the source may keep for the move before the move stops, for a source whose disk fills up is an outage. The slot stays, and the error says how to go on or to free the log. Of PostgreSQL alone.", standard: DefaultWALStop.String(), example: "64GiB"},
		}},
		{of: reflect.TypeFor[Cutover](), title: "cutover", text: "How the cutover is done, and when it is given up.", keys: []keyWord{
			{key: "stall_budget", text: "How long requests may be held in all. A cutover that would take longer is undone, and the source goes on as if nothing had happened. At most gate.hold.time.", standard: DefaultStallBudget.String(), example: "500ms"},
			{key: "stragglers", text: "What to do with transactions that still hold writes open when the source is fenced: abort gives the cutover up, terminate ends their sessions.", standard: StragglersAbort, example: StragglersTerminate, choices: stragglers},
			{key: "verify", text: "Compares both sides before the cutover, while they move on, and refuses to cut over when a row differs.", standard: true, example: "false"},
			{key: "proof", text: "Compares all data as it stood at the cutover, after the traffic has moved; it costs no stall.", standard: true, example: "false"},
		}},
		{of: reflect.TypeFor[Landing](), title: "landing", text: "The landing zone: the accounts and regions, the environments in them, and what stands there. `dhow deploy` makes stacks of it.", keys: []keyWord{
			{key: "application", text: "A short name, which becomes part of the names of stacks and of what is in them. It does not change once something is deployed.", without: "the estate's name", example: "bank", pattern: applicationForm, most: maxApplication},
			{key: "accounts", text: "The numbers of the accounts.", without: required, example: `{management: "111111111111"}`},
			{key: "role", text: "The role that is assumed in each account.", without: "all accounts are the caller's own", example: "{name: dhow-deploy, external_id: {env: DHOW_EXTERNAL_ID}}"},
			{key: "regions", text: "The regions. Any two commercial ones that differ work.", without: required, example: "{main: eu-central-1, dr: eu-west-1}"},
			{key: "environments", text: "The copies of the application, each with a network of its own.", without: required, example: "see below", least: 1, most: len(environments)},
			{key: "services", text: "The parts of the application that have a stack of their own in every environment.", without: "none", example: "[{name: accounts}, {name: web, template: frontend}]", most: maxServices},
			{key: "domain", text: "The public name that users know, for certificates and records.", without: "no names and no certificates", example: "bank.example", pattern: domainForm},
			{key: "tags", text: "Tags of everything that can have them, beside those of dhow.", without: "none", example: `{CostCenter: "4711"}`},
			{key: "parameters", text: "Values for the templates' parameters, by the template's name, in all environments.", without: "the templates' defaults", example: "{postgresql: {InstanceClass: db.m7g.large}}"},
			{key: "without", text: "Templates that are not deployed, by their names.", without: "none is left out", example: "[budget]"},
		}},
		{of: reflect.TypeFor[Accounts](), title: "landing.accounts", text: "The numbers of the accounts, 12 digits in quotes. The template organization makes those that are missing. All four may be one, for a sandbox.", keys: []keyWord{
			{key: "management", text: "The organization's management account.", without: required, example: `"111111111111"`, pattern: accountForm},
			{key: "security", text: "The account of logs and findings.", without: "made by the template organization", example: `"222222222222"`, pattern: accountForm},
			{key: "nonproduction", text: "The account of dev and sit.", without: "made by the template organization", example: `"333333333333"`, pattern: accountForm},
			{key: "production", text: "The account of main and dr.", without: "made by the template organization", example: `"444444444444"`, pattern: accountForm},
		}},
		{of: reflect.TypeFor[Role](), title: "landing.role", text: "How an account is entered: by AssumeRole, from the credentials of the environment.", keys: []keyWord{
			{key: "name", text: "The role's name, the same in each account.", without: required, example: "dhow-deploy", pattern: roleForm},
			{key: "external_id", text: "Where the external id is kept that the role's trust policy asks for.", without: "none is sent", example: "{env: DHOW_EXTERNAL_ID}"},
		}},
		{of: reflect.TypeFor[Regions](), title: "landing.regions", text: "The names of AWS regions, as `dhow regions` lists them.", keys: []keyWord{
			{key: "main", text: "Where the application runs.", without: required, example: "eu-central-1", pattern: regionForm},
			{key: "dr", text: "Where it goes on when the main region is lost. To move it, change it here and deploy again.", without: required, example: "eu-west-1", pattern: regionForm},
			{key: "home", text: "Where what an organization has once is kept: the organization, findings of all regions, budgets.", without: "the main region", example: "us-east-1", pattern: regionForm},
		}},
		{of: reflect.TypeFor[Environment](), title: "landing.environments[]", text: "One copy of the application.", keys: []keyWord{
			{key: "name", text: "Which one it is; main serves the users, and dr stands in for it.", without: required, example: "dev", choices: environments},
			{key: "account", text: "The account that it stands in.", without: "production for main and dr, else nonproduction", example: "nonproduction", choices: workloadAccounts},
			{key: "region", text: "The region that it stands in.", without: "dr for dr, else main", example: "main", choices: environmentPlaces},
			{key: "network", text: "The range of its VPC, in CIDR notation, /16 to /28. No two may overlap, nor one the source's.", without: required, example: "10.16.0.0/16", pattern: networkForm},
			{key: "parameters", text: "Values for the templates' parameters in this environment, by the template's name; they go before those of `landing.parameters`.", without: "none of its own", example: "{network: {NatGateways: one}}"},
		}},
		{of: reflect.TypeFor[Service](), title: "landing.services[]", text: "A part of the application that has a stack of its own in every environment.", keys: []keyWord{
			{key: "name", text: "How it is called.", without: required, example: "accounts", pattern: applicationForm, most: maxApplication},
			{key: "template", text: "The template of its stack: service for a workload in the cluster, frontend for one on Fargate, website for one on EC2.", standard: DefaultTemplate, example: "frontend", choices: serviceTemplates},
			{key: "parameters", text: "Values for its stack's parameters; they go before those by the template's name.", without: "none of its own", example: `{ContainerPort: "8080"}`},
		}},
	}
}
