package double

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// AWS's query protocol, spoken by the SDK's own types: a request is a form whose keys
// are paths of members, an answer is XML of the same names. So what the SDK can say is
// what the double understands.

// decodeQuery fills in, a pointer to one of the SDK's inputs, from a form. Keys that it
// does not know are left out, as AWS does with most.
func decodeQuery(form url.Values, in any) error {
	v := reflect.ValueOf(in).Elem()
	return decodeStruct(newTree(form), v)
}

// tree is a form by the parts of its keys.
type tree struct {
	value    *string
	children map[string]*tree
}

func newTree(form url.Values) *tree {
	root := &tree{}
	for key, values := range form {
		at := root
		for part := range strings.SplitSeq(key, ".") {
			if at.children == nil {
				at.children = map[string]*tree{}
			}
			if at.children[part] == nil {
				at.children[part] = &tree{}
			}
			at = at.children[part]
		}
		if len(values) > 0 {
			at.value = &values[0]
		}
	}
	return root
}

func decodeStruct(t *tree, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		if child := t.children[f.Name]; child != nil {
			if err := decodeValue(child, v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	}
	return nil
}

func decodeValue(t *tree, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if t.value == nil && v.Type().Elem().Kind() != reflect.Struct {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(t, v.Elem())
	case reflect.Slice:
		members := t.children["member"]
		if members == nil {
			if t.value != nil { // Key= says: an empty list
				v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			}
			return nil
		}
		for n := 1; members.children[strconv.Itoa(n)] != nil; n++ {
			item := reflect.New(v.Type().Elem()).Elem()
			if err := decodeValue(members.children[strconv.Itoa(n)], item); err != nil {
				return err
			}
			v.Set(reflect.Append(v, item))
		}
		return nil
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			at, err := time.Parse(time.RFC3339, t.text())
			if err != nil {
				return fmt.Errorf("%q is no time", t.text())
			}
			v.Set(reflect.ValueOf(at))
			return nil
		}
		return decodeStruct(t, v)
	case reflect.String:
		v.SetString(t.text())
	case reflect.Bool:
		b, err := strconv.ParseBool(t.text())
		if err != nil {
			return fmt.Errorf("%q is no boolean", t.text())
		}
		v.SetBool(b)
	case reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(t.text(), 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no integer", t.text())
		}
		v.SetInt(n)
	default:
		return nil
	}
	return nil
}

func (t *tree) text() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// encodeQuery writes out, one of the SDK's outputs, as the answer to an action.
func encodeQuery(namespace, action, request string, out any) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<%sResponse xmlns=%q><%sResult>", action, namespace, action)
	if out != nil {
		encodeStruct(&b, reflect.Indirect(reflect.ValueOf(out)))
	}
	fmt.Fprintf(&b, "</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", action, request, action)
	return []byte(b.String())
}

func encodeStruct(b *strings.Builder, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" {
			continue
		}
		encodeMember(b, f.Name, v.Field(i))
	}
}

func encodeMember(b *strings.Builder, name string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	} else if v.IsZero() && v.Kind() != reflect.Struct {
		return
	}
	b.WriteString("<" + name + ">")
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			encodeMember(b, "member", v.Index(i))
		}
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			b.WriteString(at.UTC().Format("2006-01-02T15:04:05.000Z"))
		} else {
			encodeStruct(b, v)
		}
	case reflect.String:
		_ = xml.EscapeText(b, []byte(v.String())) // a strings.Builder does not fail
	default:
		fmt.Fprint(b, v.Interface())
	}
	b.WriteString("</" + name + ">")
}

// fault is an error in AWS's own code and words.
type fault struct {
	status        int
	code, message string
	// late says that it is told only where a request is carried out.
	late bool
}

func (f *fault) Error() string { return f.code + ": " + f.message }

func faultf(status int, code, format string, args ...any) *fault {
	return &fault{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// invalid is the error of most that is wrong in a request.
func invalid(format string, args ...any) *fault {
	return faultf(400, "ValidationError", format, args...)
}

// lacking is the error of a function that does not find what it asks for. AWS takes the
// request of a stack that has one, and then takes the stack back.
func lacking(format string, args ...any) *fault {
	f := invalid(format, args...)
	f.late = true
	return f
}

// late is an error that is told only where a request is carried out.
func late(err error) (*fault, bool) {
	var f *fault
	return f, errors.As(err, &f) && f.late
}

func encodeFault(namespace, request string, f *fault) []byte {
	kind := "Sender"
	if f.status >= 500 {
		kind = "Receiver"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<ErrorResponse xmlns=%q><Error><Type>%s</Type><Code>%s</Code><Message>", namespace, kind, f.code)
	_ = xml.EscapeText(&b, []byte(f.message)) // a strings.Builder does not fail
	fmt.Fprintf(&b, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", request)
	return []byte(b.String())
}
