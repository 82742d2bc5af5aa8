// Package contract holds the Azure SDK for Go against a front door on a real
// connection: every operation that is offered, once, and its errors.
package contract
