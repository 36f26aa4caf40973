package transfers

import (
	"net/http"

	"golang.org/x/text/language"

	"dhow/superapp/corridors"
	"dhow/superapp/service"
)

// shown is a corridor as it is told.
type shown struct {
	Country    string   `json:"country"`
	Name       string   `json:"name"`
	Currencies []string `json:"currencies"`
	Fields     []field  `json:"fields"`
}

type field struct {
	Name    string `json:"name"`
	Label   string `json:"label"`
	Kind    string `json:"kind"`
	Example string `json:"example"`
}

// spoken is the language that a request wants names and labels in.
func spoken(r *http.Request) (language.Tag, error) {
	switch r.URL.Query().Get("lang") {
	case "", "en":
		return language.English, nil
	case "ar":
		return language.Arabic, nil
	}
	return language.Und, &service.Refusal{Status: http.StatusBadRequest, Code: service.CodeInvalidRequest, Text: "the parameter lang must be en or ar"}
}

func show(c corridors.Corridor, in language.Tag) shown {
	s := shown{Country: c.Country, Name: c.Name(in), Currencies: c.Currencies}
	for _, f := range c.Fields {
		label := f.English
		if in == language.Arabic {
			label = f.Arabic
		}
		s.Fields = append(s.Fields, field{f.Name, label, f.Kind, f.Example})
	}
	return s
}

// countries are all where money can be sent.
func (d *desk) countries(r *http.Request) (service.Answer, error) {
	in, err := spoken(r)
	if err != nil {
		return service.Answer{}, err
	}
	var all struct {
		Corridors []shown `json:"corridors"`
	}
	for _, c := range d.corridors.All() {
		all.Corridors = append(all.Corridors, show(c, in))
	}
	return service.JSON(http.StatusOK, all)
}

// country is one of them.
func (d *desk) country(r *http.Request) (service.Answer, error) {
	in, err := spoken(r)
	if err != nil {
		return service.Answer{}, err
	}
	c, err := d.corridor(r.PathValue("country"))
	if err != nil {
		return service.Answer{}, err
	}
	return service.JSON(http.StatusOK, show(c, in))
}

// corridor finds a country's, or refuses.
func (d *desk) corridor(country string) (corridors.Corridor, error) {
	c, found := d.corridors.Find(country)
	if found {
		return c, nil
	}
	return c, &service.Refusal{Status: http.StatusNotFound, Code: "unknown_corridor", Text: "no money can be sent there: GET /corridors lists the countries by their ISO 3166 codes"}
}
