package link

// Do runs fn on a thread that is in the namespace. Sockets that fn opens stay in it
// (network_namespaces(7)); what fn starts besides is not in it.
func (n *Netns) Do(fn func() error) error { return n.do(fn) }
