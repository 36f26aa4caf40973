package emulators

// reasons are why emulators say otherwise than the double. The first that fits tells.
var reasons = []reason{}
