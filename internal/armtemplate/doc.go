// Package armtemplate evaluates deployment templates: JSON documents whose strings
// in square brackets are expressions over parameters, variables, resources and a
// fixed set of functions. It is pure: what an expression needs from outside (time,
// identity, the state of resources) comes in through Environment and Runtime.
//
// A template is read by Parse, given its parameters by Template.Bind, and is then a
// Deployment: resources in an order, whose bodies are evaluated one by one, and
// outputs. Templates are hostile: depth, size and work are bounded.
package armtemplate

import "goldsmith/internal/arm"

// CodeInvalid is the code of every error of a template that cannot be deployed.
const CodeInvalid arm.Code = "InvalidTemplate"

// Limits of templates. Those with names in Azure Resource Manager are the same
// there (Azure Resource Manager limits, "Template limits").
const (
	MaxBytes      = 4 << 20 // of a template
	maxDepth      = 64      // nesting of JSON, of expressions and of values
	maxNodes      = 500_000 // values in a template
	maxExpression = 24_576  // bytes of an expression
	maxParameters = 256
	maxVariables  = 512
	maxResources  = 800
	maxOutputs    = 64
	maxCopies     = 800
	maxText       = 1 << 20   // bytes of a string that an expression makes
	maxRange      = 10_000    // elements of range()
	maxWork       = 3_000_000 // values touched by one evaluation
)
