package images

import "dhow/superapp/fleet"

// superappPackage is the application's one binary: a command for each service.
const superappPackage = "dhow/superapp/cmd/superapp"

// ServicePort is what every service listens on in its container.
const ServicePort = 8080

// Tool is the name of the image of the application's tools: migrate, seed, traffic and check.
const Tool = "superapp"

// Superapp are the images of the application: the tools' and one for each service.
func Superapp() []Spec {
	specs := []Spec{{
		Name: Tool, Package: superappPackage, Title: "superapp", Description: "Tools of the super-app: migrate, seed, traffic, check",
	}}
	for _, s := range fleet.Services() {
		specs = append(specs, Spec{
			Name: s.Name, Package: superappPackage, Args: []string{s.Name}, Title: "superapp " + s.Name,
			Description: "The service " + s.Name + " of the super-app", Port: ServicePort,
		})
	}
	return specs
}
