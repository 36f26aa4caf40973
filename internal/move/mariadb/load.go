package mariadb

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"dhow/internal/move"
)

const (
	// loadBuffer joins rows into pieces worth a hand-over, in bytes.
	loadBuffer = 256 << 10
	// loadReport is how many rows are counted before the board hears of them.
	loadReport = 2000
	// warningTruncated is what the server says, among other things, of an ENUM's
	// number 0, which it stores all the same.
	warningTruncated = 1265
)

// transfer is how the rows of a table pass from a SELECT of the source into a
// LOAD DATA of the target: as the bytes that the source stores, in no character set.
type transfer struct {
	table *Table
	// from and to are the lists of columns; sets turn numbers back into what cannot
	// be written as text.
	from, to string
	sets     string
	// years are written in four digits: "0" would be the year 2000.
	years []bool
	// enums may hold the number 0, of which the server warns.
	enums map[string]bool
}

func newTransfer(t *Table) *transfer {
	tr := &transfer{table: t, enums: map[string]bool{}}
	var from, to, sets []string
	for i, c := range t.Sent() {
		name := quote(c.Name)
		expression, into := name, name
		switch strings.ToLower(c.DataType) {
		case "float": // as text it has six digits
			expression = "CAST(" + name + " AS DOUBLE)"
		case "enum", "set": // by number: labels may be empty, or of any character set
			expression, into = "CAST("+name+" AS UNSIGNED)", "@d"+strconv.Itoa(i)
			sets = append(sets, fmt.Sprintf("%s = CAST(%s AS UNSIGNED)", name, into))
			tr.enums[c.Name] = true
		case "uuid", "inet6": // a text without a character set is taken for the bytes themselves
			expression = "CAST(" + name + " AS BINARY(16))"
		case "inet4":
			expression = "CAST(" + name + " AS BINARY(4))"
		}
		from, to = append(from, expression), append(to, into)
		tr.years = append(tr.years, strings.EqualFold(c.DataType, "year"))
	}
	tr.from, tr.to = strings.Join(from, ", "), strings.Join(to, ", ")
	if len(sets) > 0 {
		tr.sets = " SET " + strings.Join(sets, ", ")
	}
	return tr
}

func (tr *transfer) selectSQL(where string) string {
	t := tr.table
	var sql strings.Builder
	fmt.Fprintf(&sql, "SELECT SQL_NO_CACHE %s FROM %s", tr.from, t.SQL())
	if t.Versioned {
		sql.WriteString(" FOR SYSTEM_TIME ALL")
	}
	if t.KeyIndex != "" {
		sql.WriteString(" FORCE INDEX (" + quote(t.KeyIndex) + ")")
	}
	if where != "" {
		sql.WriteString(" WHERE " + where)
	}
	return sql.String()
}

func (tr *transfer) loadSQL(reader string) string {
	return fmt.Sprintf(`LOAD DATA LOCAL INFILE 'Reader::%s' INTO TABLE %s CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' (%s)%s`,
		reader, tr.table.SQL(), tr.to, tr.sets)
}

// run streams the rows that a condition chooses; memory is bounded by its buffers.
func (tr *transfer) run(ctx context.Context, from, to *sql.Conn, where string, pace *move.Pace, heard func(rows, bytes int64)) (rows, bytes int64, err error) {
	r, w := io.Pipe()
	reader := "dhow-" + rand.Text()
	mysql.RegisterReaderHandler(reader, func() io.Reader { return r })
	defer mysql.DeregisterReaderHandler(reader)
	out := &rowWriter{ctx: ctx, out: bufio.NewWriterSize(w, loadBuffer), pace: pace, heard: heard, years: tr.years}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := read(gctx, from, tr.selectSQL(where), out)
		if err == nil {
			err = out.out.Flush()
		}
		out.tell()
		_ = w.CloseWithError(err) // never fails
		if err != nil && !errors.Is(err, errReaderGone) {
			return fmt.Errorf("read from the source: %w", err)
		}
		return nil
	})
	var loaded int64
	g.Go(func() error {
		result, err := to.ExecContext(gctx, tr.loadSQL(reader))
		_ = r.CloseWithError(errReaderGone) // never fails
		if err != nil {
			return fmt.Errorf("write to the target: %w", err)
		}
		loaded, err = result.RowsAffected()
		return err
	})
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	if err := tr.warnings(ctx, to); err != nil {
		return 0, 0, err
	}
	if loaded != out.rows {
		return 0, 0, fmt.Errorf("the target took %d of %d rows", loaded, out.rows)
	}
	return out.rows, out.bytes, nil
}

// errReaderGone says that LOAD DATA has ended, for good or ill.
var errReaderGone = errors.New("the target reads no more rows")

// warnings refuses what LOAD DATA warned of: with LOCAL the server makes errors warnings.
func (tr *transfer) warnings(ctx context.Context, to *sql.Conn) error {
	var n int
	if err := to.QueryRowContext(ctx, "SELECT @@warning_count").Scan(&n); err != nil || n == 0 {
		return err
	}
	return scan(ctx, to, "SHOW WARNINGS", func(row func(...any) error) error {
		var level, message string
		var code int
		if err := row(&level, &code, &message); err != nil {
			return err
		}
		if code == warningTruncated {
			for name := range tr.enums {
				if strings.Contains(message, "'"+name+"'") {
					return nil
				}
			}
		}
		if level == "Note" {
			return nil
		}
		return fmt.Errorf("the target changed a value while it was loaded (error %d, column %s)", code, namedColumn(message, tr.table))
	})
}

// namedColumn finds the column that a warning names, without the values that it may hold too.
func namedColumn(message string, t *Table) string {
	for _, c := range t.Columns {
		if strings.Contains(message, "'"+c.Name+"'") || strings.Contains(message, "`"+c.Name+"`") {
			return c.Name
		}
	}
	return "unknown"
}

// read hands the rows of a query on, one by one, as the driver has them.
func read(ctx context.Context, conn *sql.Conn, query string, out *rowWriter) error {
	return conn.Raw(func(c any) error {
		queryer, ok := c.(driver.QueryerContext)
		if !ok {
			return errors.New("the driver runs no queries")
		}
		rows, err := queryer.QueryContext(ctx, query, nil)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // what it would say was said by Next
		values := make([]driver.Value, len(rows.Columns()))
		for {
			if err := rows.Next(values); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := out.write(values); err != nil {
				return err
			}
		}
	})
}

// rowWriter writes rows as lines that LOAD DATA reads.
type rowWriter struct {
	ctx   context.Context
	out   *bufio.Writer
	pace  *move.Pace
	heard func(rows, bytes int64)
	years []bool

	line        []byte
	rows, bytes int64

	newRows, newBytes int64
}

func (w *rowWriter) write(values []driver.Value) error {
	line := w.line[:0]
	for i, v := range values {
		if i > 0 {
			line = append(line, '\t')
		}
		switch v := v.(type) {
		case nil:
			line = append(line, '\\', 'N')
		case []byte:
			line = appendEscaped(line, v)
		case int64:
			if w.years[i] {
				line = fmt.Appendf(line, "%04d", v)
			} else {
				line = strconv.AppendInt(line, v, 10)
			}
		case uint64:
			line = strconv.AppendUint(line, v, 10)
		case float64:
			line = strconv.AppendFloat(line, v, 'g', -1, 64)
		default:
			return fmt.Errorf("the driver gave a value as %T", v)
		}
	}
	line = append(line, '\n')
	w.line = line
	w.rows++
	w.newRows++
	w.bytes += int64(len(line))
	w.newBytes += int64(len(line))
	if w.newRows == loadReport {
		if err := w.pace.Took(w.ctx, loadReport); err != nil {
			<-w.ctx.Done() // it ends before the wait would
			return w.ctx.Err()
		}
		w.tell()
	}
	_, err := w.out.Write(line)
	if cap(w.line) > 4*loadBuffer { // one large value does not stay in memory
		w.line = nil
	}
	return err
}

func (w *rowWriter) tell() {
	w.heard(w.newRows, w.newBytes)
	w.newRows, w.newBytes = 0, 0
}

// appendEscaped appends a value so that none of its bytes ends a field or a line.
func appendEscaped(line, value []byte) []byte {
	from := 0
	for i, b := range value {
		if b == '\\' || b == '\t' || b == '\n' {
			line = append(line, value[from:i]...)
			line = append(line, '\\', b)
			from = i + 1
		}
	}
	return append(line, value[from:]...)
}
