package mariadb

import (
	"slices"
	"strings"
	"testing"
)

func TestRightsOnWhatMovesAreCarried(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers: not with -short (testing.Short)")
	}
	e := startEnds(t)
	e.sql(e.source, "CREATE DATABASE app", "CREATE DATABASE other", "CREATE TABLE app.t (a INT PRIMARY KEY, b INT)", "CREATE TABLE other.t (a INT PRIMARY KEY)",
		"CREATE PROCEDURE app.tidy() DELETE FROM app.t WHERE b = 0", "CREATE ROLE reader",
		"CREATE USER teller@'%' IDENTIFIED BY 'the source''s'", "CREATE USER gone@'%' IDENTIFIED BY 'x'",
		"GRANT SELECT (a), UPDATE (b) ON app.t TO teller@'%'", "GRANT EXECUTE ON PROCEDURE app.tidy TO teller@'%'", "GRANT INSERT ON `ap_`.* TO teller@'%'",
		"GRANT SELECT ON other.t TO teller@'%'", "GRANT PROCESS ON *.* TO teller@'%'", "GRANT SELECT ON app.t TO reader", "GRANT SELECT ON app.t TO gone@'%'")
	e.sql(e.target, "CREATE ROLE reader", "CREATE USER teller@'%' IDENTIFIED BY 'the target''s'")
	s := e.replicate(e.mover("app"))
	s.wait()
	s.end()
	var got []string
	for _, of := range []string{"teller@'%'", "reader"} {
		for _, g := range e.rows(e.target, "SHOW GRANTS FOR "+of) {
			if !strings.Contains(g, "USAGE") {
				got = append(got, g)
			}
		}
	}
	slices.Sort(got)
	want := []string{"GRANT EXECUTE ON PROCEDURE `app`.`tidy` TO `teller`@`%`", "GRANT INSERT ON `ap_`.* TO `teller`@`%`", "GRANT SELECT (`a`), UPDATE (`b`) ON `app`.`t` TO `teller`@`%`", "GRANT SELECT ON `app`.`t` TO `reader`"}
	if len(got) != len(want) {
		t.Fatalf("the target's accounts have the rights\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got %s, want %s", got[i], want[i])
		}
	}
	if users := e.rows(e.target, "SELECT User FROM mysql.user WHERE User = 'gone'"); len(users) != 0 {
		t.Error("an account was made at the target")
	}
}
