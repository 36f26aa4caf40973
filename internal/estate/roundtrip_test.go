package estate

import (
	"fmt"
	"math"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// words are texts as people and programs choose them: what YAML takes for a
// number, a truth value, a comment or a mark of its own included.
func words() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z][a-z0-9_]{0,12}`),
		rapid.SampledFrom([]string{"true", "no", "~", "null", "010", "1.10", "0x1f", "1e3", "- a", "a: b", "a #b", "#a", "*a", "&a", "!a", "{a}", "[a]", "'", `"`, `\`, "%a", "@a", "`a", "?", ":", "-", " a ", "a'b", "é", "日本", "<<", ".inf", "2026-11-24", "=", "|", ">"}),
		rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.N, unicode.P, unicode.S), 1, 20, -1),
	)
}

// estates are valid estates with nothing at its default but by chance.
func estates() *rapid.Generator[*Estate] {
	return rapid.Custom(func(t *rapid.T) *Estate {
		limits := func(label string) Limits {
			warn := Size(rapid.Int64Range(1, math.MaxInt64-1).Draw(t, label+" warn"))
			return Limits{
				Copies: rapid.IntRange(1, maxParallel).Draw(t, label+" copies"), Lanes: rapid.IntRange(1, maxParallel).Draw(t, label+" lanes"),
				Chunk:         Size(rapid.Int64Range(int64(minChunk), math.MaxInt64).Draw(t, label+" chunk")),
				RowsPerSecond: rapid.IntRange(1, math.MaxInt).Draw(t, label+" rows"), Connections: rapid.IntRange(minConnections, math.MaxInt).Draw(t, label+" connections"),
				WALWarn: warn, WALStop: Size(rapid.Int64Range(int64(warn)+1, math.MaxInt64).Draw(t, label+" stop")),
			}
		}
		secret := func(label string) Secret {
			return rapid.SampledFrom([]Secret{
				{}, {Env: "PASSWORD"}, {File: "/run/" + words().Draw(t, label)}, {ARN: arnOf("a")}, {ARN: arnOf("a"), Field: words().Draw(t, label+" field")},
			}).Draw(t, label+" secret")
		}
		endpoint := func(label string) Endpoint {
			e := Endpoint{
				Host: label + rapid.SampledFrom([]string{"", ".example.com", ".example.com."}).Draw(t, label+" host"), Port: rapid.IntRange(1, maxPort).Draw(t, label+" port"),
				Database: words().Draw(t, label+" database"), User: words().Draw(t, label+" user"), Password: secret(label),
				TLS: TLS{Mode: rapid.SampledFrom(tlsModes).Draw(t, label+" mode")},
			}
			if e.TLS.Mode == TLSVerifyCA || e.TLS.Mode == TLSVerifyFull {
				e.TLS.CA = rapid.SampledFrom([]string{"", "/etc/ca.pem"}).Draw(t, label+" ca")
			}
			return e
		}
		reach := func(label string) Reach {
			return Reach{Host: rapid.SampledFrom([]string{"", label + ".internal"}).Draw(t, label+" reach"), Port: rapid.IntRange(0, maxPort).Draw(t, label+" reach's port")}
		}
		e := &Estate{Name: "bank", State: "/var/" + words().Draw(t, "state"), Limits: limits("estate")}
		for i := range rapid.IntRange(1, 4).Draw(t, "databases") {
			n := fmt.Sprint("d", i)
			schemas := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-oq-z][a-z ]{0,5}[0-9]`), 0, 3, rapid.ID[string]).Draw(t, n+" schemas")
			d := Database{Name: n, Engine: PostgreSQL, Source: endpoint("s" + n), Target: endpoint("t" + n), Schemas: schemas, Limits: limits(n)}
			switch d.Engine = Engine(rapid.SampledFrom(engines).Draw(t, n+" engine")); d.Engine {
			case PostgreSQL:
				d.Roles = rapid.MapOfN(words(), words(), 0, 3).Draw(t, n+" roles")
			case MariaDB:
				d.Source.Database, d.Target.Database, d.Limits = "", "", d.Engine.limits(d.Limits)
				if rapid.Bool().Draw(t, n+" replication") {
					d.Replication = &Replication{User: words().Draw(t, n+" replica"), Password: secret(n + " replica"), TLS: new(rapid.Bool().Draw(t, n+" tls")), Source: reach("s" + n), Target: reach("t" + n)}
				}
			case Redis:
				d.Source.Database, d.Target.Database, d.Limits = "", "", d.Engine.limits(d.Limits)
				d.Schemas, schemas = nil, nil
				d.Source.Cluster, d.Target.Cluster = rapid.Bool().Draw(t, n+" source cluster"), rapid.Bool().Draw(t, n+" target cluster")
			}
			for _, s := range schemas {
				d.Exclude = append(d.Exclude, s+"."+words().Draw(t, n+" table"))
			}
			e.Databases = append(e.Databases, d)
		}
		e.Cutover = Cutover{
			StallBudget: time.Duration(rapid.Int64Range(1, int64(time.Second)).Draw(t, "stall")), Stragglers: rapid.SampledFrom(stragglers).Draw(t, "stragglers"),
			Verify: new(rapid.Bool().Draw(t, "verify")), Proof: new(rapid.Bool().Draw(t, "proof")),
		}
		if rapid.Bool().Draw(t, "gate") {
			e.Gate = &Gate{
				Listen: ":8080", Control: "/run/gate.sock", Token: secret("token"), Metrics: "127.0.0.1:9100",
				Hold: Hold{Requests: rapid.IntRange(1, math.MaxInt).Draw(t, "requests"), Bytes: Size(rapid.Int64Range(1, math.MaxInt64).Draw(t, "bytes")), Time: time.Duration(rapid.Int64Range(int64(time.Second), int64(maxHoldTime)).Draw(t, "time"))},
			}
			for i := range rapid.IntRange(1, 4).Draw(t, "routes") {
				e.Gate.Routes = append(e.Gate.Routes, Route{
					Name: fmt.Sprint("r", i), Host: rapid.SampledFrom([]string{"", "api.example.com", "127.0.0.1"}).Draw(t, "host"), Path: fmt.Sprint("/", i),
					Source: "http://a", Target: "http://b:8080/base", H2C: rapid.Bool().Draw(t, "h2c"),
				})
			}
		}
		return e
	})
}

// TestAnyEstateLoadsAsItself writes estates and loads them: each must be itself.
func TestAnyEstateLoadsAsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := estates().Draw(t, "estate")
		text, err := e.Text()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(FileName, "/estate", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(e, got, ignoreOrigins); diff != "" {
			t.Fatalf("it loads as something else (-it +loaded):\n%s\n%s", diff, text)
		}
	})
}
