package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// tracerName names what makes the spans.
const tracerName = "dhow/superapp/service"

// exportVariables turn the export of traces on; they are OpenTelemetry's own.
var exportVariables = []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}

// propagator carries a trace from service to service, in the header traceparent.
var propagator = propagation.TraceContext{}

// newTracer makes the tracer of a service and what ends it. Without an address to
// send them to no span is made, and a trace that a client began is passed on.
func newTracer(ctx context.Context, name, instance string, log *slog.Logger) (trace.Tracer, func(context.Context) error, error) {
	export := false
	for _, v := range exportVariables {
		export = export || os.Getenv(v) != ""
	}
	if !export {
		return noop.NewTracerProvider().Tracer(tracerName), func(context.Context) error { return nil }, nil
	}
	// That spans are lost is no reason to fail; it goes to this service's log.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces can not be sent", "error", err) }))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the export of traces: check %s: %w", exportVariables[0], err)
	}
	about, err := resource.Merge(resource.Default(), resource.NewSchemaless(attribute.String("service.name", "superapp-"+name), attribute.String("service.instance.id", instance)))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("name this service in its traces: %w", err), exporter.Shutdown(ctx))
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return provider.Tracer(tracerName), provider.Shutdown, nil
}

// began opens the span of a request, as a part of its client's trace.
func began(ctx context.Context, tracer trace.Tracer, r *http.Request, route string) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
	return tracer.Start(ctx, route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", route)))
}

// ended closes a span; what an error says stays in the log, which is the service's own.
func ended(span trace.Span, status int) {
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
	span.End()
}

// traceID is the id of the trace that ctx belongs to; empty outside of one.
func traceID(ctx context.Context) string {
	if c := trace.SpanContextFromContext(ctx); c.HasTraceID() {
		return c.TraceID().String()
	}
	return ""
}
