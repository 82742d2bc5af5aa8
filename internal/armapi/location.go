package armapi

import "strings"

// Location is a region's name and how it is shown.
type Location struct{ Name, Display, Geography string }

// Locations are the regions that are offered. All of them are this host; they
// exist because templates and galleries name them.
var Locations = []Location{
	{"australiaeast", "Australia East", "Asia Pacific"},
	{"australiasoutheast", "Australia Southeast", "Asia Pacific"},
	{"brazilsouth", "Brazil South", "South America"},
	{"canadacentral", "Canada Central", "Canada"},
	{"canadaeast", "Canada East", "Canada"},
	{"centralindia", "Central India", "Asia Pacific"},
	{"centralus", "Central US", "US"},
	{"eastasia", "East Asia", "Asia Pacific"},
	{"eastus", "East US", "US"},
	{"eastus2", "East US 2", "US"},
	{"francecentral", "France Central", "Europe"},
	{"germanywestcentral", "Germany West Central", "Europe"},
	{"japaneast", "Japan East", "Asia Pacific"},
	{"japanwest", "Japan West", "Asia Pacific"},
	{"koreacentral", "Korea Central", "Asia Pacific"},
	{"northcentralus", "North Central US", "US"},
	{"northeurope", "North Europe", "Europe"},
	{"norwayeast", "Norway East", "Europe"},
	{"southafricanorth", "South Africa North", "Africa"},
	{"southcentralus", "South Central US", "US"},
	{"southeastasia", "Southeast Asia", "Asia Pacific"},
	{"southindia", "South India", "Asia Pacific"},
	{"swedencentral", "Sweden Central", "Europe"},
	{"switzerlandnorth", "Switzerland North", "Europe"},
	{"uaenorth", "UAE North", "Middle East"},
	{"uksouth", "UK South", "UK"},
	{"ukwest", "UK West", "UK"},
	{"westcentralus", "West Central US", "US"},
	{"westeurope", "West Europe", "Europe"},
	{"westindia", "West India", "Asia Pacific"},
	{"westus", "West US", "US"},
	{"westus2", "West US 2", "US"},
	{"westus3", "West US 3", "US"},
}

// locationName is the short form of a region's name: clients send "West US 2"
// and "WestUS2" for "westus2".
func locationName(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
