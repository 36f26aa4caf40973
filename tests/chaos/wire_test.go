package chaos

import (
	"dhow/internal/estate"
	"dhow/tests/wire"
)

// bundle is the wires to all servers of a side.
type bundle map[estate.Engine]*wire.Wire

func (b bundle) Cut() {
	for _, w := range b {
		w.Cut()
	}
}

func (b bundle) Partition() {
	for _, w := range b {
		w.Partition()
	}
}

func (b bundle) Heal() {
	for _, w := range b {
		w.Heal()
	}
}
