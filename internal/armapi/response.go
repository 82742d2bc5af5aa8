package armapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"goldsmith/internal/resource"
)

// Response is a handler's answer. Body is marshalled as JSON; nil is no body.
type Response struct {
	Status int // 200 when 0
	Header http.Header
	Body   any
	// Stream writes the body instead, for as long as it likes; its error ends the
	// connection. Status and Header are sent before.
	Stream func(w http.ResponseWriter) error
}

// OK is a 200 with body.
func OK(body any) Response { return Response{Status: http.StatusOK, Body: body} }

// Created is a 201 or a 200 with body.
func Created(created bool, body any) Response {
	if created {
		return Response{Status: http.StatusCreated, Body: body}
	}
	return OK(body)
}

// NoContent is a 204.
func NoContent() Response { return Response{Status: http.StatusNoContent} }

// With is r with a header set.
func (r Response) With(name, value string) Response {
	h := r.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set(name, value)
	r.Header = h
	return r
}

// WithETag is r with the record's entity tag.
func (r Response) WithETag(rec resource.Record) Response {
	return r.With("ETag", strconv.Quote(rec.ETag))
}

// ListOf answers a list. next is the page token of resource.Store.List.
func ListOf[T any](r *Request, values []T, next string) Response {
	if values == nil {
		values = []T{}
	}
	body := struct {
		Value    []T    `json:"value"`
		NextLink string `json:"nextLink,omitempty"`
	}{Value: values}
	if next != "" {
		q := url.Values{"api-version": {r.Version}, "$skipToken": {next}}
		for _, name := range []string{"$filter", "$top", "$expand", "tagname", "tagvalue", "template", "state"} {
			if values := r.Query[name]; len(values) > 0 {
				q[name] = values
			}
		}
		body.NextLink = r.Link(r.path, q)
	}
	return OK(body)
}

// write sends a response in the form of a provider, nil for none.
func write(w http.ResponseWriter, method string, r Response, p *Provider) error {
	maps.Copy(w.Header(), r.Header)
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	if method == http.MethodHead && r.Status == http.StatusOK {
		// What exists is 204 to those who only ask whether it does.
		r.Status, r.Body = http.StatusNoContent, nil
	}
	if r.Stream != nil {
		w.WriteHeader(r.Status)
		if err := r.Stream(w); err != nil {
			panic(http.ErrAbortHandler) // the client sees that it is not whole
		}
		return nil
	}
	if r.Body == nil {
		if r.Status != http.StatusNoContent {
			w.Header().Set("Content-Length", "0")
		}
		w.WriteHeader(r.Status)
		return nil
	}
	body, err := json.Marshal(r.Body)
	if err != nil {
		return err
	}
	if p == nil {
		p = &Provider{}
	}
	if p.Indent != "" {
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", p.Indent); err != nil {
			return err
		}
		body = b.Bytes()
	}
	contentType := "application/json; charset=utf-8"
	if p.ContentType != "" {
		contentType = p.ContentType
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.Status)
	if method != http.MethodHead {
		_, _ = w.Write(body) // an error is the client's going away
	}
	return nil
}
