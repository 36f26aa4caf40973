package expose

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// trafficTime bounds one question to Prometheus.
const trafficTime = 10 * time.Second

// Traffic counts requests by a query of a Prometheus server: what it answers is added up. No
// answer is an error, for it may mean that the query is wrong.
func Traffic(address, query string) (func(context.Context) (float64, error), error) {
	c, err := api.NewClient(api.Config{Address: address})
	if err != nil {
		return nil, wrong("--prometheus: %v", err)
	}
	asked := prometheus.NewAPI(c)
	return func(ctx context.Context) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, trafficTime)
		defer cancel()
		v, _, _, err := asked.Query(ctx, query, time.Now())
		if err != nil {
			return 0, fmt.Errorf("ask Prometheus for the requests that still come: %w", err)
		}
		sum := 0.0
		switch x := v.(type) {
		case model.Vector:
			if len(x) == 0 {
				return 0, errors.New("ask Prometheus for the requests that still come: the query answers with nothing: want a number even where nobody comes, such as sum(rate(requests_total[1m])) or vector(0)")
			}
			for _, s := range x {
				sum += float64(s.Value)
			}
		case *model.Scalar:
			sum = float64(x.Value)
		default:
			return 0, fmt.Errorf("ask Prometheus for the requests that still come: the query answers with a %s: want an instant vector, such as sum(rate(requests_total[1m]))", v.Type())
		}
		return sum, nil
	}, nil
}
