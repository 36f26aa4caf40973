package main

import (
	"fmt"
	"strings"

	"dhow/bench/sidebyside"
)

var shapes = []sidebyside.Shape{
	{Name: "large", What: "one table of 3 million rows with a second index", SQL: largeTable},
	{Name: "small", What: "1,000 small tables", SQL: smallTables},
	{Name: "wide", What: "wide rows with JSON and binary data", SQL: wideRows},
}

// largeTable is one large table of card movements.
func largeTable(divisor int) []string {
	return []string{
		"CREATE TABLE movements (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, card INT NOT NULL, amount DECIMAL(14,2) NOT NULL, at DATETIME(6) NOT NULL, kind ENUM('pay','refund','fee') NOT NULL, note VARCHAR(100), KEY by_card (card, at))",
		fmt.Sprintf("INSERT INTO movements SELECT seq, seq * 7919 %% 200000, seq %% 100000 / 7, '2026-01-01' + INTERVAL seq SECOND, 1 + seq %% 3, CONCAT('a payment of row ', seq, ' at a shop') FROM seq_1_to_%d", 3000000/divisor),
	}
}

// smallTables is a schema of many tables, as services with a table for each tenant
// or each kind have it: a key, two indexes, a foreign key to the table before.
func smallTables(divisor int) []string {
	const rows, batch = 200, 100
	tables := 1000 / divisor
	var list []string
	var b strings.Builder
	for i := range tables {
		parent := ""
		if i > 0 {
			parent = fmt.Sprintf(", FOREIGN KEY (parent) REFERENCES t%04d (id)", i-1)
		}
		fmt.Fprintf(&b, `CREATE TABLE t%04d (id BIGINT AUTO_INCREMENT PRIMARY KEY, parent BIGINT, code VARCHAR(40) NOT NULL UNIQUE, amount DECIMAL(14,2) NOT NULL, at TIMESTAMP NOT NULL, note TEXT, KEY (at)%s);
			INSERT INTO t%04d (parent, code, amount, at, note) SELECT seq, CONCAT('code ', seq), seq * 997 %% 100000 / 100, '2026-01-01' + INTERVAL seq MINUTE, REPEAT('note ', seq %% 20) FROM seq_1_to_%d;`, i, parent, i, rows)
		if (i+1)%batch == 0 {
			list = append(list, b.String())
			b.Reset()
		}
	}
	return append(list, b.String()+"DO 0")
}

// wideRows has documents and images.
func wideRows(divisor int) []string {
	const rows = 30000
	return []string{
		"CREATE TABLE documents (id BIGINT PRIMARY KEY, owner CHAR(36) NOT NULL, kind VARCHAR(20) NOT NULL, created DATETIME NOT NULL, body JSON NOT NULL, scan MEDIUMBLOB, txt MEDIUMTEXT, KEY (owner), KEY (created))",
		// 6 kB of binary data, 8 kB of JSON, 3 kB of text.
		fmt.Sprintf(`INSERT INTO documents SELECT seq, UUID(), CONCAT('kind ', seq %% 7), '2026-01-01' + INTERVAL seq MINUTE,
			CONCAT('[', REPEAT(CONCAT('{"value": ', seq, ', "currency": "AED", "description": "a payment for goods and services", "settled": true}, '), 80), 'null]'),
			UNHEX(REPEAT(CONCAT(SHA2(seq, 256), SHA2(-seq, 256)), 96)), REPEAT(CONCAT(MD5(seq * 3), ' '), 90) FROM seq_1_to_%d`, rows/divisor),
	}
}
