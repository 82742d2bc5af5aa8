package build

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// mostPatience is by how much a busy host may lengthen the wait for a restored
// guest.
const mostPatience = 5

// restorePatience is how long a restored guest may take to answer: longer on a host
// that has more to run than processors. A good state is not to be given up because
// its guest got no time.
func (e *Engine) restorePatience() time.Duration {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return e.restoreTimeout
	}
	first, _, _ := strings.Cut(string(text), " ")
	return stretch(e.restoreTimeout, first, runtime.NumCPU())
}

// stretch lengthens d by the load of cpus processors, given as in /proc/loadavg.
func stretch(d time.Duration, load string, cpus int) time.Duration {
	n, err := strconv.ParseFloat(load, 64)
	if err != nil {
		return d
	}
	return time.Duration(float64(d) * max(1, min(n/float64(cpus), mostPatience)))
}
