package plan

import "testing"

func TestShortened(t *testing.T) {
	taken := map[string]bool{}
	for _, c := range []struct{ name, want string }{
		{"accounts", "accounts"},
		{"accounts", "accounts-2"},
		{"a-very-long-name-of-a-workload", "a-very-long-name"},
		{"a-very-long-name-of-another", "a-very-long-na-2"},
		{"a-very-long-name-of-a-third", "a-very-long-na-3"},
		{"7-zip", "zip"},
		{"15-digits-then-", "digits-then"},
		{"007", "workload"},
		{"42", "workload-2"},
	} {
		if got := shortened(c.name, taken); got != c.want {
			t.Errorf("%s becomes %s, want %s", c.name, got, c.want)
		}
	}
}
