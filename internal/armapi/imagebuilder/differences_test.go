//go:build conformance

package imagebuilder_test

import (
	"path"
)

// excusedDifference is a place where our answers are not as recorded, and why.
// file is a pattern of "FILE#EXCHANGE" and path one of a member (with "#" for an
// index), or "HTTP status", or "header NAME", as path.Match reads them.
type excusedDifference struct{ file, path, why string }

var differences = []excusedDifference{
	{"*", "header Retry-After", "clients that get none wait 30 s between polls; here everything is faster"},
	{"*", "header ETag", "so that a client can make its change depend on what it read"},
	{"*", "header Azure-AsyncOperation signature", "polls are authorised by the caller's token, so the address needs no signature"},
	{"*", "header Location signature", "as above"},
	{"cli-test_image_build_trigger.json#[38]", "status", "a trigger is made and deleted at once"},
	{"cli-test_image_build_trigger.json#[38]", "endTime", "as above"},
	{"ps-Stop-AzImageBuilderTemplate-2020.json#1", "properties.lastRunStatus.*", "the new run is shown at once, not up to a second later"},
	{"ps-Get-AzImageBuilderTemplateRunOutput-2022.json#*", "*properties.artifactId", "the version's number is made from the time"},
	{"ps-New-AzImageBuilderTemplate.json#0", "properties.customize.#.sha256Checksum", "as below"},
	{"ps-Stop-AzImageBuilderTemplate-2025.json#0", "properties.customize.#.sha256Checksum", "the recorded digest is not sent: the script is another one here"},
	{"cli-test_image_builder_vm_profile.json#[23]", "*error.code", "the rights of the template's identity are asked before a run; here the size of the proxy is refused"},
	{"cli-test_image_builder_vm_profile.json#[23]", "*rror.message", "as above"},
}

// excuse is the entry that allows a difference, nil for none.
func excuse(file, at string) *excusedDifference {
	for i, d := range differences {
		inFile, err := path.Match(d.file, file)
		if err != nil {
			panic(err)
		}
		inPath, err := path.Match(d.path, at)
		if err != nil {
			panic(err)
		}
		if inFile && inPath {
			return &differences[i]
		}
	}
	return nil
}
