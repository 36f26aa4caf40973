package mariadb

import "testing"

func TestGrantedOn(t *testing.T) {
	for statement, want := range map[string]string{
		"GRANT SELECT, INSERT ON `cards`.`movements` TO `cards`@`%`":            "cards",
		"GRANT ALL PRIVILEGES ON `cards`.* TO `superapp`@`%` WITH GRANT OPTION": "cards",
		"GRANT SELECT (`a`, `b ON ``x`), INSERT ON `we``ird`.`t` TO `u`@`h`":    "we`ird",
		"GRANT EXECUTE ON PROCEDURE `cards`.`tidy` TO `cards`@`%`":              "cards",
		"GRANT SELECT ON `car\\_ds%`.* TO `r`":                                  "car\\_ds%",
		"GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*00'":            "",
		"GRANT `reader` TO `u`@`%`":                                             "",
		"GRANT SELECT ON *.* TO `u`@`%`":                                        "",
	} {
		if got, ok := grantedOn(statement); got != want || ok != (want != "") {
			t.Errorf("%s: on %q (%v), want %q", statement, got, ok, want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, one := range []struct {
		pattern, database string
		want              bool
	}{
		{"cards", "cards", true}, {"cards", "cards2", false}, {"car%", "cards", true}, {"c_rds", "cards", true},
		{`c\_rds`, "cards", false}, {`c\_rds`, "c_rds", true}, {"%", "any.thing(", true},
	} {
		if got := covers(one.pattern, one.database); got != one.want {
			t.Errorf("covers(%q, %q) is %v", one.pattern, one.database, got)
		}
	}
}
