package rdb

import "errors"

var errPacked = errors.New("a compressed string is damaged")

// unpack appends what LZF packed to dst; it must be whole bytes long. It allocates
// no more than the packed bytes can make: one back reference makes 264 bytes of three.
func unpack(dst, packed []byte, whole int) ([]byte, error) {
	const most = 264/2 + 1
	if whole > len(packed)*most {
		return dst, errPacked
	}
	start := len(dst)
	if free := cap(dst) - start; free < whole {
		grown := make([]byte, start, start+whole)
		copy(grown, dst)
		dst = grown
	}
	for i := 0; i < len(packed); {
		c := int(packed[i])
		i++
		if c < 32 { // c+1 bytes as they are
			c++
			if i+c > len(packed) || len(dst)-start+c > whole {
				return dst, errPacked
			}
			dst = append(dst, packed[i:i+c]...)
			i += c
			continue
		}
		n := c >> 5
		if n == 7 {
			if i >= len(packed) {
				return dst, errPacked
			}
			n += int(packed[i])
			i++
		}
		if i >= len(packed) {
			return dst, errPacked
		}
		from := len(dst) - (c&0x1f)<<8 - int(packed[i]) - 1
		i++
		n += 2
		if from < start || len(dst)-start+n > whole {
			return dst, errPacked
		}
		for ; n > 0; n-- { // byte by byte, for it may overlap itself
			dst = append(dst, dst[from])
			from++
		}
	}
	if len(dst)-start != whole {
		return dst, errPacked
	}
	return dst, nil
}
