package linkspec

// Upper is a device over a tap, by which the host's namespace sends to a tap in
// another one: a macvlan, as the kernel calls it.
const Upper Kind = "macvlan"
