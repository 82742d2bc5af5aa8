// Package protocol is the language between the builder and the helper inside a
// guest: one JSON object per line over a virtio-serial port. It performs no I/O
// of its own. Either end treats the other as hostile: lines have a maximum size,
// numbers have ranges, and what does not parse is skipped.
package protocol

import "encoding/json"

// Port is the name of the virtio-serial port.
const Port = "org.goldsmith.helper.0"

// BuildUser is the user that a build's commands run as unless the seed names
// another.
const BuildUser = "build"

// DeprovisionFile is where a build's generalise commands are, below the root, and
// Deprovision what they are by default: those of the real service, but that they look
// for the agent instead of asking it for its version, which takes an emulated guest
// six seconds.
const (
	DeprovisionFile = "tmp/DeprovisioningScript.sh"
	Deprovision     = `WAAGENT=/usr/sbin/waagent
command -v waagent 1> /dev/null 2>&1
if [ $? -eq 0 ]; then
  WAAGENT=waagent
fi
$WAAGENT -force -deprovision+user && export HISTSIZE=0 && sync
`
)

// Version is the language's version, sent by both ends in Hello.
const Version = 1

// MaxLine is the longest line in bytes, without its end.
const MaxLine = 64 << 10

// Op names a request.
type Op string

// Requests. Those with arguments or a result name their types.
const (
	OpHello      Op = "hello"      // Hello, Hello
	OpReady      Op = "ready"      // nothing, Ready: answered when the guest has booted
	OpIdentify   Op = "identify"   // Identify, nothing
	OpNetwork    Op = "network"    // Network, Address: answered when the NIC has an address and sshd answers
	OpGrow       Op = "grow"       // Grow, Grown: root file system to the size of its disk
	OpSync       Op = "sync"       // nothing
	OpRest       Op = "rest"       // nothing: answered when the guest has nothing to do any more
	OpTrim       Op = "trim"       // nothing, Trimmed
	OpRelease    Op = "release"    // nothing: unmounts and forgets the seed disk
	OpGeneralise Op = "generalise" // Generalise, Generalised: the guest powers off after the answer
)

// Request is a line from the builder.
type Request struct {
	ID   uint64          `json:"id"` // never 0, never repeated on one connection
	Op   Op              `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Reply is a line from the guest: the answer to the request with the same ID.
type Reply struct {
	ID     uint64          `json:"id"`
	Error  string          `json:"error,omitempty"` // what went wrong, "" when it worked
	Result json.RawMessage `json:"result,omitempty"`
}

// Hello opens a conversation. The builder sends a fresh nonce; the guest repeats
// it, and everything before that repetition belongs to an earlier conversation,
// such as bytes that were under way when the guest was saved.
type Hello struct {
	Nonce   string `json:"nonce"`
	Version int    `json:"version"`
}

// Ready tells how the boot went.
type Ready struct {
	// State is what systemd says: "running", or "degraded" with failed units.
	State string `json:"state"`
	// Failed are failed units.
	Failed []string `json:"failed,omitempty"`
	// Errors are those of cloud-init.
	Errors []string `json:"errors,omitempty"`
	// Waagent reports whether the Azure agent is installed.
	Waagent bool `json:"waagent"`
}

// Identify makes a restored guest unlike every other one restored from the same
// state. It takes effect in this order: entropy, clock, keys.
type Identify struct {
	// Entropy is credited to the kernel's random number generator: 32 to 512
	// bytes from the builder's own.
	Entropy []byte `json:"entropy"`
	// UnixNanos is the time, in nanoseconds since 1970.
	UnixNanos int64 `json:"unixNanos"`
	// HostKey replaces all of sshd's host keys: an ed25519 private key in
	// OpenSSH's format (PEM), and HostPublicKey its line.
	HostKey       string `json:"hostKey"`
	HostPublicKey string `json:"hostPublicKey"`
	// User is the build user, AuthorizedKey the only key that may log in as it.
	User          string `json:"user"`
	AuthorizedKey string `json:"authorizedKey"`
	// Settings of the package managers and of the environment, for the time of
	// the build.
	Settings Settings `json:"settings"`
}

// Settings are what a build may ask of the guest's environment. Generalisation
// takes all of it back.
type Settings struct {
	HTTPProxy  string `json:"httpProxy,omitempty"`
	HTTPSProxy string `json:"httpsProxy,omitempty"`
	NoProxy    string `json:"noProxy,omitempty"`
	// CACertificates are additional trusted certificates, PEM.
	CACertificates string `json:"caCertificates,omitempty"`
	// Mirrors maps prefixes of package archives to what serves them instead, such
	// as "http://archive.example.org/debian" to "http://mirror.corp/debian".
	Mirrors map[string]string `json:"mirrors,omitempty"`
}

// Network says which card to wait for.
type Network struct {
	// MAC is the card's hardware address.
	MAC string `json:"mac"`
	// SSHPort is where sshd must answer, on the guest's loopback; 0 for 22.
	SSHPort int `json:"sshPort,omitempty"`
}

// Address is what the card got.
type Address struct {
	Interface string `json:"interface"`
	Address   string `json:"address"` // with prefix length
}

// Grow asks for the root file system to fill its disk.
type Grow struct {
	// DiskBytes is the size that the disk was given; the guest's kernel hears of it
	// a little later, which is waited for. 0 takes the disk as it is.
	DiskBytes int64 `json:"diskBytes,omitempty"`
}

// Grown is the root file system after growing.
type Grown struct {
	Bytes int64 `json:"bytes"`
}

// Trimmed is how much was given back to the disk.
type Trimmed struct {
	Bytes int64 `json:"bytes"`
}

// Generalise says what of the build to remove.
type Generalise struct {
	// User is the build user.
	User string `json:"user"`
}

// Generalised is what was done.
type Generalised struct {
	// Removed counts files and directories.
	Removed int `json:"removed"`
	// Trimmed is in bytes.
	Trimmed int64 `json:"trimmed"`
	// Warnings are what could not be cleaned.
	Warnings []string `json:"warnings,omitempty"`
}
