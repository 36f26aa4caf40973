package rdb

import "encoding/binary"

// The checksum is a CRC-64 of Jones' polynomial, reflected, that begins with 0. It
// is taken eight bytes at a time, for every byte that moves goes through it twice.
const polynomial = 0x95ac9329ac4bc9b5

var crcTables = makeTables()

func makeTables() *[8][256]uint64 {
	var t [8][256]uint64
	for i := range t[0] {
		crc := uint64(i)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ polynomial
			} else {
				crc >>= 1
			}
		}
		t[0][i] = crc
	}
	for i := range t[0] {
		crc := t[0][i]
		for j := 1; j < len(t); j++ {
			crc = t[0][crc&0xff] ^ crc>>8
			t[j][i] = crc
		}
	}
	return &t
}

// Checksum continues the checksum crc, at first 0, over p.
func Checksum(crc uint64, p []byte) uint64 {
	t := crcTables
	for len(p) >= 8 {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = t[7][crc&0xff] ^ t[6][crc>>8&0xff] ^ t[5][crc>>16&0xff] ^ t[4][crc>>24&0xff] ^
			t[3][crc>>32&0xff] ^ t[2][crc>>40&0xff] ^ t[1][crc>>48&0xff] ^ t[0][crc>>56]
		p = p[8:]
	}
	for _, b := range p {
		crc = t[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}
