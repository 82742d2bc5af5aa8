// Package az tests the service with the real az command: every az command of the
// published documents, and a build from its first command to a booted image.
package az
