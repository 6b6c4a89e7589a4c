package doctor

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// modulePresent tells whether the running kernel has a module, in it or beside it.
func modulePresent(name string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true // there is no telling
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(u.Release[:])
	if _, err := os.Stat(dir); err != nil {
		return true
	}
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		data, _ := os.ReadFile(dir + "/" + list)
		if strings.Contains(string(data), "/"+name+".ko") {
			return true
		}
	}
	return false
}
