package price

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// offersURL is where AWS publishes an offer's prices, for all regions in one file;
	// current/REGION/index.csv has one region's.
	offersURL = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/%s/current/index.csv"
	// maxOfferLine bounds a line of such a file, in bytes; EC2's have a hundred columns.
	maxOfferLine = 1 << 20
	// offersHead is how many lines stand in front of the names of the columns.
	offersHead = 5
)

// usage matches the type of use behind its region's prefix: "EUC1-NatGateway-Hours",
// "eu-central-1-KMS-Keys", and nothing in front in the oldest region.
func usage(form string) *regexp.Regexp {
	return regexp.MustCompile(`^(?:[A-Z]+[0-9]*-|[a-z]{2}(?:-[a-z]+)+-[0-9]+-)?` + form + `$`)
}

// product is one kind of row of AWS's files, and what it is here.
type product struct {
	offers []string
	usage  *regexp.Regexp
	// where are the columns that a row must have, by their names.
	where map[string][]string
	// code is what it is; $1 is the usage's group, $E the engine.
	code string
	per  string
	// times is how many of the file's units are one of ours.
	times int64
}

// products are all rows that are read. Who adds an item to the list of prices adds the
// row that it is refreshed from.
func products() []product {
	linux := map[string][]string{"Product Family": {"Compute Instance"}, "Operating System": {"Linux"}, "Tenancy": {"Shared"}, "Pre Installed S/W": {"NA"}, "CapacityStatus": {"Used"}}
	server := map[string][]string{"Product Family": {"Database Instance"}, "Deployment Option": {"Single-AZ"}, "Database Engine": {"PostgreSQL", "MariaDB", "MySQL"}}
	disk := map[string][]string{"Product Family": {"Database Storage"}, "Deployment Option": {"Single-AZ"}, "Database Engine": {"PostgreSQL", "Any"}, "Volume Type": {"General Purpose-GP3"}}
	family := func(name string) map[string][]string { return map[string][]string{"Product Family": {name}} }
	ec2, elb, vpc, ecs, rds := []string{"AmazonEC2"}, []string{"AmazonEC2", "AWSELB"}, []string{"AmazonVPC", "AmazonEC2"}, []string{"AmazonECS"}, []string{"AmazonRDS"}
	return []product{
		{ec2, usage(`BoxUsage:([a-z0-9.-]+)`), linux, "ec2/$1", "hour", 1},
		{ec2, usage(`EBS:VolumeUsage\.gp3`), nil, "ebs/gp3", "GB-month", 1},
		{ec2, usage(`NatGateway-Hours`), nil, "nat/hour", "hour", 1},
		{ec2, usage(`NatGateway-Bytes`), nil, "nat/gb", "GB", 1},
		{elb, usage(`LoadBalancerUsage`), family("Load Balancer-Application"), "alb/hour", "hour", 1},
		{elb, usage(`LCUUsage`), family("Load Balancer-Application"), "alb/lcu", "hour", 1},
		{elb, usage(`LoadBalancerUsage`), family("Load Balancer-Network"), "nlb/hour", "hour", 1},
		{elb, usage(`LCUUsage`), family("Load Balancer-Network"), "nlb/lcu", "hour", 1},
		{vpc, usage(`PublicIPv4:InUseAddress`), nil, "ipv4/hour", "hour", 1},
		{vpc, usage(`VpcEndpoint-Hours`), nil, "endpoint/hour", "hour", 1},
		{vpc, usage(`VpcEndpoint-Bytes`), nil, "endpoint/gb", "GB", 1},
		{ecs, usage(`Fargate-vCPU-Hours:perCPU`), nil, "fargate/vcpu", "hour", 1},
		{ecs, usage(`Fargate-GB-Hours`), nil, "fargate/gb", "hour", 1},
		{ecs, usage(`Fargate-ARM-vCPU-Hours:perCPU`), nil, "fargate/vcpu-arm", "hour", 1},
		{ecs, usage(`Fargate-ARM-GB-Hours`), nil, "fargate/gb-arm", "hour", 1},
		{[]string{"AmazonEKS"}, usage(`AmazonEKS-Hours:perCluster`), nil, "eks/cluster", "hour", 1},
		{rds, usage(`InstanceUsage:(db\.[a-z0-9.-]+)`), server, "rds/$E/$1", "hour", 1},
		{rds, usage(`RDS:GP3(?:-Storage)?`), disk, "rds/gp3", "GB-month", 1},
		{rds, usage(`RDS:GP3-PIOPS`), nil, "rds/gp3-iops", "IOPS-month", 1},
		{rds, usage(`RDS:GP3-Throughput`), nil, "rds/gp3-mbps", "MBps-month", 1},
		{rds, usage(`RDS:ChargedBackupUsage`), nil, "rds/backup", "GB-month", 1},
		{[]string{"AmazonElastiCache"}, usage(`NodeUsage:(cache\.[a-z0-9.-]+)`), map[string][]string{"Cache Engine": {"Redis", "Valkey"}}, "elasticache/$E/$1", "hour", 1},
		{[]string{"AmazonECR"}, usage(`TimedStorage-ByteHrs`), nil, "ecr/storage", "GB-month", 1},
		{[]string{"AmazonS3"}, usage(`TimedStorage-ByteHrs`), nil, "s3/storage", "GB-month", 1},
		{[]string{"AmazonCloudWatch"}, usage(`DataProcessing-Bytes`), nil, "logs/ingest", "GB", 1},
		{[]string{"AmazonCloudWatch"}, usage(`TimedStorage-ByteHrs`), nil, "logs/storage", "GB-month", 1},
		{[]string{"AWSDataTransfer"}, usage(`DataTransfer-Out-Bytes`), map[string][]string{"Transfer Type": {"AWS Outbound"}, "To Location": {"External"}}, "transfer/internet", "GB", 1},
		{[]string{"AWSSecretsManager"}, usage(`AWSSecretsManager-Secrets`), nil, "secrets/secret", "month", 1},
		{[]string{"AWSSecretsManager"}, usage(`AWSSecretsManagerAPIRequest`), nil, "secrets/calls", "10,000 calls", 10000},
		{[]string{"awskms"}, usage(`KMS-Keys`), nil, "kms/key", "month", 1},
		{[]string{"awskms"}, usage(`KMS-Requests`), nil, "kms/calls", "10,000 calls", 10000},
	}
}

// engineColumns are the columns that name an engine.
var engineColumns = []string{"Database Engine", "Cache Engine"}

// FromOffers reads one of AWS's own bulk files of prices, in its CSV form, as AWS
// publishes one for each service: it takes the prices on demand, in the first step of
// their volume that is not free, in regions proper, of what the list has items for. Where
// a file gives two prices for one step, the higher stands. It reads the file as a stream; that of
// EC2 for all regions has gigabytes. An error names the line.
func FromOffers(r io.Reader) (*List, error) {
	in := csv.NewReader(&boundedLines{r: r})
	in.FieldsPerRecord = -1
	in.ReuseRecord = true
	head := map[string]string{}
	l := newList()
	o := offerReader{list: l, steps: map[step]float64{}}
	for at := 1; ; at++ {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d of the price list is not CSV as AWS publishes it: %w", at, err)
		}
		switch {
		case at <= offersHead:
			if len(row) != 2 {
				return nil, fmt.Errorf("line %d: want a name and a value, as FormatVersion: is it a price list of AWS in its CSV form?", at)
			}
			head[row[0]] = row[1]
		case o.columns == nil:
			if err := o.begin(head, row); err != nil {
				return nil, fmt.Errorf("line %d: %w", at, err)
			}
		default:
			if err := o.take(row); err != nil {
				return nil, fmt.Errorf("line %d: %w", at, err)
			}
		}
	}
	if o.columns == nil {
		return nil, errors.New("the price list ends before its columns are named: is it whole?")
	}
	if len(l.prices) == 0 {
		return nil, fmt.Errorf("there is no price in the list of %s that is taken: is it whole?", head["OfferCode"])
	}
	return l, nil
}

// needed are the columns that every file has.
var needed = []string{"TermType", "StartingRange", "PricePerUnit", "Currency", "usageType"}

// places are the columns that say where something is, and what kind of place that is: in
// files of what goes from one place to another it is where it goes from.
var places = []struct{ region, kind string }{{"Region Code", "Location Type"}, {"From Region Code", "From Location Type"}}

// offerReader is what is known of a file while it is read.
type offerReader struct {
	list    *List
	offer   string
	columns map[string]int
	// region and kind are the columns of places that the file has.
	region, kind string
	// mine are the products of the offer.
	mine []product
	// steps are where the step of volume begins that a price is of.
	steps map[step]float64
}

type step struct {
	code   Code
	region string
}

// begin takes the head of a file and the names of its columns.
func (o *offerReader) begin(head map[string]string, names []string) error {
	published, err := time.Parse(time.RFC3339, head["Publication Date"])
	if err != nil {
		return fmt.Errorf("the publication date is %q: want one as 2006-01-02T15:04:05Z", shown(head["Publication Date"]))
	}
	o.offer = head["OfferCode"]
	if !offerForm.MatchString(o.offer) {
		return fmt.Errorf("the offer is %q: want a name as AmazonEC2", shown(o.offer))
	}
	for _, p := range products() {
		if slices.Contains(p.offers, o.offer) {
			o.mine = append(o.mine, p)
		}
	}
	if len(o.mine) == 0 {
		return fmt.Errorf("no price of the offer %q is taken: name the file of another service", o.offer)
	}
	l := o.list
	l.Date, l.Currency = published.UTC().Format(time.DateOnly), "USD"
	l.sources[o.offer] = Source{Title: "AWS's bulk price list of " + o.offer, URL: fmt.Sprintf(offersURL, o.offer), Date: l.Date}
	o.columns = make(map[string]int, len(names))
	for i, n := range names {
		o.columns[n] = i
	}
	for _, n := range needed {
		if _, ok := o.columns[n]; !ok {
			return fmt.Errorf("there is no column %s", n)
		}
	}
	for _, p := range places {
		_, region := o.columns[p.region]
		if _, kind := o.columns[p.kind]; region && kind {
			o.region, o.kind = p.region, p.kind
			return nil
		}
	}
	return fmt.Errorf("there are no columns %s and %s", places[0].region, places[0].kind)
}

var offerForm = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// take takes a row, if it is of something that has an item.
func (o *offerReader) take(row []string) error {
	cell := func(name string) string {
		if i, ok := o.columns[name]; ok && i < len(row) {
			return row[i]
		}
		return ""
	}
	if cell("TermType") != "OnDemand" || cell("Currency") != "USD" || cell(o.kind) != "AWS Region" {
		return nil
	}
	for _, p := range o.mine {
		found := p.usage.FindStringSubmatch(cell("usageType"))
		if found == nil || !p.fits(cell) {
			continue
		}
		code := p.code
		if len(found) > 1 {
			code = strings.ReplaceAll(code, "$1", found[1])
		}
		for _, c := range engineColumns {
			if e := cell(c); e != "" {
				code = strings.ReplaceAll(code, "$E", engineCode(e))
			}
		}
		return o.price(p, Code(code), cell)
	}
	return nil
}

func (o *offerReader) price(p product, code Code, cell func(string) string) error {
	region := cell(o.region)
	if !regionForm.MatchString(region) {
		return fmt.Errorf("%q is no region", shown(region))
	}
	from, err := strconv.ParseFloat(cell("StartingRange"), 64)
	if err != nil || from < 0 || math.IsNaN(from) {
		return fmt.Errorf("the price of %s in %s holds from %q on: want a number", code, region, shown(cell("StartingRange")))
	}
	rate, err := offerRate(cell("PricePerUnit"), p.times)
	if err != nil {
		return fmt.Errorf("the price of %s in %s: %w", code, region, err)
	}
	if rate == 0 || !codeForm.MatchString(string(code)) {
		return nil // what is free in its first step says nothing of what is paid later
	}
	e := o.list.prices[code]
	if e == nil {
		e = &entry{per: p.per, regions: map[string]rated{}}
		o.list.prices[code] = e
	}
	at := step{code, region}
	old, twice := e.regions[region]
	if !twice || from < o.steps[at] || from == o.steps[at] && rate > old.rate {
		e.regions[region], o.steps[at] = rated{rate, o.offer}, from
	}
	return nil
}

func (p product) fits(cell func(string) string) bool {
	for column, values := range p.where {
		if !slices.Contains(values, cell(column)) {
			return false
		}
	}
	return true
}

// engineCode is an engine's name in a code: PostgreSQL is postgres, as in RDS' own API.
func engineCode(name string) string {
	if name == "PostgreSQL" {
		return "postgres"
	}
	return strings.ToLower(name)
}

// offerRate reads a price of ten digits behind the point, of which ours have nine.
func offerRate(text string, times int64) (Rate, error) {
	whole, behind, _ := strings.Cut(text, ".")
	if len(behind) > rateDigits {
		last, err := strconv.Atoi(behind[rateDigits:])
		if err != nil {
			return 0, fmt.Errorf("%q is no price", shown(text))
		}
		if last != 0 && times > 1 {
			return 0, fmt.Errorf("%q is too fine to be counted", shown(text))
		}
		behind = behind[:rateDigits]
	}
	if behind != "" {
		whole += "." + behind
	}
	rate, err := parseRate(whole)
	if err != nil {
		return 0, err
	}
	return scale(rate, Amount(times*milli))
}

// boundedLines fails where a line has no end: what reads CSV would take it all into memory.
type boundedLines struct {
	r    io.Reader
	long int
}

func (b *boundedLines) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	for _, c := range p[:n] {
		if b.long++; c == '\n' {
			b.long = 0
		}
		if b.long > maxOfferLine {
			return 0, fmt.Errorf("a line is longer than %d bytes: is it the right file?", maxOfferLine)
		}
	}
	return n, err
}

// Within is the list with those entries alone that the known list has, or has another size
// of: AWS sells hundreds of classes that no plan asks for.
func (l *List) Within(known *List) *List {
	stems := map[string]bool{}
	for code := range known.prices {
		if stem, _, ok := family(code); ok {
			stems[stem] = true
		}
	}
	out := *l
	out.prices = map[Code]*entry{}
	for code, e := range l.prices {
		stem, _, class := family(code)
		if _, has := known.prices[code]; has || class && stems[stem] {
			out.prices[code] = e
		}
	}
	return &out
}
