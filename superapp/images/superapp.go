package images

// superappPackage is the application's one binary: a command for each service.
const superappPackage = "dhow/superapp/cmd/superapp"

// ServicePort is what every service listens on in its container.
const ServicePort = 8080

// Tool is the name of the image of the application's tools: migrate, seed, traffic and check.
const Tool = "superapp"

// Service is one of the application's services.
type Service struct {
	Name, Description string
	// Postgres, MariaDB and Redis say which stores it needs.
	Postgres, MariaDB, Redis bool
	// Exposed says whether customers reach it.
	Exposed bool
}

// Services are the application's, in the order in which they are started.
func Services() []Service {
	return []Service{
		{Name: "accounts", Description: "Customers, accounts and the ledger", Postgres: true, Exposed: true},
		{Name: "payments", Description: "Payments, requests for payment and split bills", Postgres: true, Exposed: true},
		{Name: "transfers", Description: "Money sent abroad", Postgres: true, Redis: true, Exposed: true},
		{Name: "cards", Description: "Virtual cards and what is paid with them", MariaDB: true, Exposed: true},
		{Name: "fx", Description: "Rates of exchange", Redis: true, Exposed: true},
		{Name: "analytics", Description: "Spending by month, category and merchant", MariaDB: true, Exposed: true},
		{Name: "web", Description: "The pages that customers use", Redis: true, Exposed: true},
		{Name: "site", Description: "The public website", Exposed: true},
	}
}

// Superapp are the images of the application: one for each service, and the tools'.
func Superapp() []Spec {
	specs := []Spec{{
		Name: Tool, Package: superappPackage, Title: "superapp", Description: "Tools of the super-app: migrate, seed, traffic, check",
	}}
	for _, s := range Services() {
		specs = append(specs, Spec{
			Name: s.Name, Package: superappPackage, Args: []string{s.Name}, Title: "superapp " + s.Name, Description: s.Description, Port: ServicePort,
		})
	}
	return specs
}
