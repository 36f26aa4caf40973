package postgres

import (
	"encoding/binary"

	"github.com/jackc/pglogrepl"
)

// parseRare reads a message that is no row. The library trusts the lengths in a
// message; one that is cut off or says nonsense is an error here, as any other
// that can not be read.
func parseRare(data []byte) (msg pglogrepl.Message, err error) {
	const truncateHeader, oid = 6, 4 // 'T', how many tables, options; then a table each
	if len(data) >= truncateHeader && data[0] == 'T' && uint64(binary.BigEndian.Uint32(data[1:]))*oid > uint64(len(data)-truncateHeader) {
		return nil, errShort
	}
	defer func() {
		if recover() != nil {
			msg, err = nil, errShort
		}
	}()
	return pglogrepl.Parse(data)
}
