package double

import (
	"net/http"
	"net/url"
)

func iamActions() map[string]handler { return nil }

func (d *Double) serveJSON(w http.ResponseWriter, _ *http.Request, request, target string, _ []byte) {
	d.fail(w, cloudformationNamespace, request, faultf(400, "InvalidAction", "The action %s is not valid for this endpoint", target))
}

func (d *Double) serveEC2(w http.ResponseWriter, _ *http.Request, request string, _ *signed, _ error, form url.Values) {
	d.fail(w, cloudformationNamespace, request, faultf(400, "InvalidAction", "The action %s is not valid for this web service", form.Get("Action")))
}
