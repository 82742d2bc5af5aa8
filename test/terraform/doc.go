// Package terraform tests the service with the real terraform and its azapi
// provider: what an apply makes, that a plan after it is empty, and a destroy.
package terraform
