// Package kubernetes keeps the overlay networks in Kubernetes' API, as custom resources of
// the group berth.dev (deploy/chart/crds) and objects in the agents' namespace:
//
//	BerthNetwork blue           an [overlay.Network]; its ID is the UID, unless spec.id says one
//	BerthNode host1             an [overlay.Node], [overlay.Missed], [overlay.Left], and which
//	                            agent runs; owned by the Node host1
//	BerthBlock 10.42.3.0-24     an [overlay.Block]; owned by the BerthNode
//	BerthRemoval network-HASH   an [overlay.Removal]
//	Lease host1                 that the agent of host1 lives
//	Lease berth-networks        the lock of who makes a network
//	ConfigMap blue.host1        the [overlay.Name]s of host1 on blue
//
// The API has no transactions over several objects. A claim is the creation of one object:
// of a block, whose name is its prefix, or of a node. What has to hold beside it is looked
// at before and behind; who finds that it does not any more takes back what it wrote.
//
// # Who lives
//
// A watch of something that every host writes every few seconds costs the square of their
// number: therefore nobody watches Nodes, or leases. What all are told (the agent of a
// BerthNode, for [overlay.Alive]) changes when an agent starts, and ends in good order.
// That it ended otherwise shows by its lease, which is read when somebody asks
// ([Store.State], a Register in its place, node rm), and by each host for all others at a
// rate that keeps what all ask for under 1 MB a second: for 100 hosts every 6 seconds, for
// 5,000 every 4 hours. Where that is more than a minute each host also looks after the
// leases of two others, and says in its BerthNode which have run out, for all to look for
// themselves. Nothing in the data plane hangs on it. A host that the cluster removes goes at
// once.
//
// # What is an order
//
// An object that is not there is none: the data may be from a backup, or of another
// cluster. An order is a BerthRemoval. `berth network rm` and `berth node rm` write it
// before they delete anything. Whoever deletes by other means gives an order, too: a person
// with kubectl, or the cluster, which deletes what a removed Node owned. An agent that
// sees the deletion, in a history that is proven to go on, writes the removal for those
// that were away (the first of them by chance), and all follow that. It is none if
// the object is back after a second, as the BerthNode of an agent that runs is; or if the
// definition itself is being deleted, which takes all objects with it: `kubectl delete -f
// berth.yaml` leaves the pods' networks as they are. There is no finalizer: it would have a
// deletion wait for an agent that may be gone for good. When no agent at all runs while
// something is deleted, hosts keep it, and say so.
//
// The history is proven by the UID of the definition of networks (the incarnation); by
// versions, which go on in the whole cluster and not backwards; and, since an etcd that is
// put back from a snapshot may be told to go on behind the versions that it had, by the
// node's own lease: nobody else writes it, so it has to be as it was written last.
//
// # Whatever else has write access
//
// may write nonsense: the definitions refuse most of it, and each object that is read is
// checked. What is wrong is reported and used by nobody. An agent in a pod may write what is
// its own node's only (deploy/chart/templates/admission.yaml).
package kubernetes
