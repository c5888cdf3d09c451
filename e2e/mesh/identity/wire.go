package identity

import (
	"encoding/binary"
	"errors"
	"io"
)

// field is one field of a protobuf message that has bytes: a text, or another message.
func field(number int, value []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(number)<<3|2)
	return append(binary.AppendUvarint(out, uint64(len(value))), value...)
}

func text(number int, value string) []byte { return field(number, []byte(value)) }

// fields reads those fields of a message that have bytes, by number; numbers and fixed-size ones are passed over.
func fields(message []byte) (map[int][][]byte, error) {
	all, broken := map[int][][]byte{}, errors.New("a message that is no protobuf")
	for len(message) > 0 {
		key, size := binary.Uvarint(message)
		if size <= 0 {
			return nil, broken
		}
		message = message[size:]
		length := uint64(0)
		switch key & 7 {
		case 0:
			_, size = binary.Uvarint(message)
			if size <= 0 {
				return nil, broken
			}
			message = message[size:]
			continue
		case 1:
			length = 8
		case 2:
			length, size = binary.Uvarint(message)
			if size <= 0 {
				return nil, broken
			}
			message = message[size:]
		case 5:
			length = 4
		default:
			return nil, broken
		}
		if length > uint64(len(message)) {
			return nil, broken
		}
		if key&7 == 2 {
			all[int(key>>3)] = append(all[int(key>>3)], message[:length])
		}
		message = message[length:]
	}
	return all, nil
}

// framed is a message of gRPC: not compressed, and its length before it.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// frameMost bounds what is read at once.
const frameMost = 1 << 20

// unframed reads one message of gRPC.
func unframed(from io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] != 0 || length > frameMost {
		return nil, errors.New("a message that is compressed or too large")
	}
	message := make([]byte, length)
	_, err := io.ReadFull(from, message)
	return message, err
}
