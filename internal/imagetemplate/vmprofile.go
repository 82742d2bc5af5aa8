package imagetemplate

// vmProfile is the build machine: vmProfile, and in 2019-05-01-preview the
// network beside it.
func (r *reader) vmProfile(properties *members) VMProfile {
	m := properties.object("vmProfile")
	p := VMProfile{
		Size:         m.text("vmSize"),
		OSDiskSizeGB: m.number("osDiskSizeGB", 0),
		Identities:   m.texts("userAssignedIdentities"),
	}
	if v := m.get("userAssignedIdentities"); v != nil {
		for _, item := range v.items {
			if !item.open {
				r.id(item.at, item.text, identityType)
			}
		}
	}
	if r.version == v2019May {
		p.VNet = r.vnetByName(properties)
	} else if v := m.get("vnetConfig"); v != nil {
		p.VNet = r.vnet(v)
	}
	return p
}
