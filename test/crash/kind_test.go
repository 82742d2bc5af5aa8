package crash

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
)

// object is a JSON object of a request.
type object = map[string]any

// kind is a type of resource that the clients write. A body has the number of the
// write in several places: where they differ, a write is half there.
type kind struct {
	name    string // the first part of resource names
	version string
	id      func(group, name string) string
	body    func(group string, n int) object
	numbers func(resource) []string // the number in each of its places
	again   bool                    // whether an existing one may be written over
}

// resource is what the service answers of one.
type resource struct {
	Tags       map[string]string `json:"tags"`
	Properties struct {
		ProvisioningState string `json:"provisioningState"`
		Staging           string `json:"exactStagingResourceGroup"`
		Customize         []struct {
			Name string `json:"name"`
		} `json:"customize"`
		Distribute []struct {
			Output string `json:"runOutputName"`
		} `json:"distribute"`
		AddressSpace struct {
			Prefixes []string `json:"addressPrefixes"`
		} `json:"addressSpace"`
		Subnets []struct {
			Properties struct {
				Prefix string `json:"addressPrefix"`
			} `json:"properties"`
		} `json:"subnets"`
	} `json:"properties"`
}

var kinds = []kind{
	{
		name: "template", version: "2022-07-01",
		id: func(group, name string) string {
			return group + "/providers/Microsoft.VirtualMachineImages/imageTemplates/" + name
		},
		body: func(group string, n int) object {
			number := strconv.Itoa(n)
			return object{
				"location": "westus2", "tags": object{"n": number},
				"identity": object{"type": "UserAssigned", "userAssignedIdentities": object{identityID(group): object{}}},
				"properties": object{
					"source":    object{"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
					"customize": []object{{"type": "Shell", "name": number, "inline": []string{"echo " + number}}},
					"distribute": []object{{
						"type": "ManagedImage", "runOutputName": number, "location": "westus2", "artifactTags": object{},
						"imageId": group + "/providers/Microsoft.Compute/images/golden",
					}},
				},
			}
		},
		numbers: func(r resource) []string {
			numbers := []string{r.Tags["n"]}
			for _, c := range r.Properties.Customize {
				numbers = append(numbers, c.Name)
			}
			for _, d := range r.Properties.Distribute {
				numbers = append(numbers, d.Output)
			}
			return numbers
		},
	},
	{
		name: "network", version: "2023-09-01", again: true,
		id: func(group, name string) string {
			return group + "/providers/Microsoft.Network/virtualNetworks/" + name
		},
		body: func(_ string, n int) object {
			var subnets []object
			for i := range 3 {
				subnets = append(subnets, object{"name": fmt.Sprintf("s%d", i), "properties": object{"addressPrefix": fmt.Sprintf("10.%d.%d.0/24", n%200, i)}})
			}
			return object{
				"location": "westus2", "tags": object{"n": strconv.Itoa(n % 200)},
				"properties": object{"addressSpace": object{"addressPrefixes": []string{fmt.Sprintf("10.%d.0.0/16", n%200)}}, "subnets": subnets},
			}
		},
		numbers: func(r resource) []string {
			numbers := []string{r.Tags["n"]}
			for _, s := range r.Properties.Subnets {
				numbers = append(numbers, second(s.Properties.Prefix))
			}
			for _, p := range r.Properties.AddressSpace.Prefixes {
				numbers = append(numbers, second(p))
			}
			return numbers
		},
	},
	{
		name: "group", version: "2024-03-01", again: true,
		id: func(group, name string) string { return path.Dir(group) + "/" + name },
		body: func(_ string, n int) object {
			return object{"location": "westus2", "tags": object{"n": strconv.Itoa(n), "m": strconv.Itoa(n)}}
		},
		numbers: func(r resource) []string { return []string{r.Tags["n"], r.Tags["m"]} },
	},
}

// second is the second number of an address.
func second(address string) string {
	var a, b int
	if _, err := fmt.Sscanf(address, "%d.%d.", &a, &b); err != nil {
		return address
	}
	return strconv.Itoa(b)
}

// identityID is the identity of the templates.
func identityID(group string) string {
	return group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder"
}

// write is a resource with what the clients know of it.
type write struct {
	kind     kind
	id       string
	accepted bool     // whether a write of it was answered
	last     []string // the numbers of the last such write
	inFlight []string // the numbers of one that had no answer
}

func (w *write) path() string { return w.id + "?api-version=" + w.kind.version }

// check says what is wrong with what the service has of a resource after it was
// killed; "" for nothing.
func (w *write) check(status int, r resource) string {
	if status == http.StatusNotFound {
		if w.accepted {
			return "it was accepted and is not there"
		}
		return ""
	}
	got := w.kind.numbers(r)
	if (w.accepted && slices.Equal(got, w.last)) || (w.inFlight != nil && slices.Equal(got, w.inFlight)) {
		return ""
	}
	return fmt.Sprintf("it has %v; accepted was %v, and in flight %v", got, w.last, w.inFlight)
}
