// Command goldsmith makes golden virtual-machine images.
package main

func main() {}
