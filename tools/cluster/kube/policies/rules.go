package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	main   = "NODE-POLICIES"
	prefix = "NP-" // of the chains of single pods
)

// cluster is what the rules follow from.
type cluster struct {
	pods       []*core.Pod
	namespaces map[string]labels.Set
	policies   []*networking.NetworkPolicy
}

// peer is the other side of what a rule allows: a pod, or a range of addresses.
type peer struct {
	addresses netip.Prefix
	pod       *core.Pod
}

// rules declares the main chain, and a chain for each pod and direction that a policy isolates.
func (c cluster) rules() string {
	var declared, jumps, body strings.Builder
	fmt.Fprintf(&declared, ":%s - [0:0]\n", main)
	fmt.Fprintf(&jumps, "-A %s -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN\n", main)
	pods := slices.DeleteFunc(slices.Clone(c.pods), func(pod *core.Pod) bool { return !reachable(pod) })
	sort.Slice(pods, func(i, j int) bool { return pods[i].UID < pods[j].UID })
	policies := slices.Clone(c.policies)
	sort.Slice(policies, func(i, j int) bool { return policies[i].UID < policies[j].UID })
	c.pods = pods
	for _, pod := range pods {
		for _, direction := range []networking.PolicyType{networking.PolicyTypeEgress, networking.PolicyTypeIngress} {
			var allowed []string
			isolated := false
			for _, policy := range policies {
				if policy.Namespace == pod.Namespace && slices.Contains(policy.Spec.PolicyTypes, direction) &&
					matches(&policy.Spec.PodSelector, pod.Labels) {
					isolated = true
					allowed = append(allowed, c.allowed(policy, pod, direction)...)
				}
			}
			if !isolated {
				continue
			}
			// Returning from it leads on to the other side's chain, which has its own say.
			chain := fmt.Sprintf("%s%s-%s", prefix, direction[:1], strings.ReplaceAll(string(pod.UID), "-", "")[:20])
			fmt.Fprintf(&declared, ":%s - [0:0]\n", chain)
			fmt.Fprintf(&jumps, "-A %s %s %s -j %s\n", main, own(direction), pod.Status.PodIP, chain)
			fmt.Fprintf(&body, "-A %s -s %s -d %s -j RETURN\n", chain, pod.Status.PodIP, pod.Status.PodIP)
			for _, rule := range slices.Compact(allowed) {
				fmt.Fprintf(&body, "-A %s %s -j RETURN\n", chain, rule)
			}
			fmt.Fprintf(&body, "-A %s -j DROP\n", chain)
		}
	}
	return declared.String() + jumps.String() + body.String()
}

// allowed is what one policy lets through, as conditions of rules.
func (c cluster) allowed(policy *networking.NetworkPolicy, pod *core.Pod, direction networking.PolicyType) []string {
	var found []string
	add := func(peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) {
		for _, each := range c.peers(policy.Namespace, peers) {
			if len(ports) == 0 {
				found = append(found, fmt.Sprintf("%s %s", other(direction), each.addresses))
			}
			for _, port := range ports {
				found = append(found, c.conditions(each, port, pod, direction)...)
			}
		}
	}
	if direction == networking.PolicyTypeIngress {
		for _, rule := range policy.Spec.Ingress {
			add(rule.From, rule.Ports)
		}
	} else {
		for _, rule := range policy.Spec.Egress {
			add(rule.To, rule.Ports)
		}
	}
	return found
}

// conditions is one peer with one port; a port's name is looked up in the pod that is spoken to.
func (c cluster) conditions(each peer, port networking.NetworkPolicyPort, pod *core.Pod, direction networking.PolicyType) []string {
	protocol := core.ProtocolTCP
	if port.Protocol != nil {
		protocol = *port.Protocol
	}
	base := fmt.Sprintf("%s %s -p %s", other(direction), each.addresses, strings.ToLower(string(protocol)))
	switch {
	case port.Port == nil:
		return []string{base}
	case port.Port.Type == intstr.Int && port.EndPort != nil:
		return []string{fmt.Sprintf("%s --dport %d:%d", base, port.Port.IntVal, *port.EndPort)}
	case port.Port.Type == intstr.Int:
		return []string{fmt.Sprintf("%s --dport %d", base, port.Port.IntVal)}
	case direction == networking.PolicyTypeIngress:
		if number := named(pod, port.Port.StrVal, protocol); number != 0 {
			return []string{fmt.Sprintf("%s --dport %d", base, number)}
		}
		return nil
	}
	targets := []*core.Pod{each.pod}
	if each.pod == nil {
		targets = slices.DeleteFunc(slices.Clone(c.pods), func(pod *core.Pod) bool {
			return !each.addresses.Contains(netip.MustParseAddr(pod.Status.PodIP))
		})
	}
	var found []string
	for _, target := range targets {
		if number := named(target, port.Port.StrVal, protocol); number != 0 {
			found = append(found, fmt.Sprintf("-d %s -p %s --dport %d", target.Status.PodIP, strings.ToLower(string(protocol)), number))
		}
	}
	return found
}

// peers is everything that the peers of a rule stand for; none stands for everything.
func (c cluster) peers(namespace string, wanted []networking.NetworkPolicyPeer) []peer {
	if len(wanted) == 0 {
		return []peer{{addresses: netip.MustParsePrefix("0.0.0.0/0")}}
	}
	var found []peer
	for _, each := range wanted {
		if each.IPBlock != nil {
			for _, addresses := range without(each.IPBlock) {
				found = append(found, peer{addresses: addresses})
			}
			continue
		}
		for _, pod := range c.pods {
			inside := pod.Namespace == namespace
			if each.NamespaceSelector != nil {
				inside = matches(each.NamespaceSelector, c.namespaces[pod.Namespace])
			}
			if inside && (each.PodSelector == nil || matches(each.PodSelector, pod.Labels)) {
				address := netip.MustParseAddr(pod.Status.PodIP)
				found = append(found, peer{addresses: netip.PrefixFrom(address, address.BitLen()), pod: pod})
			}
		}
	}
	return found
}

// without is a block's range less its exceptions, as ranges.
func without(block *networking.IPBlock) []netip.Prefix {
	whole, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !whole.Addr().Is4() {
		return nil
	}
	left := []netip.Prefix{whole.Masked()}
	for _, text := range block.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil {
			return nil
		}
		var next []netip.Prefix
		for _, each := range left {
			next = append(next, subtract(each, except.Masked())...)
		}
		left = next
	}
	return left
}

func subtract(from, except netip.Prefix) []netip.Prefix {
	if !from.Overlaps(except) {
		return []netip.Prefix{from}
	}
	if except.Bits() <= from.Bits() {
		return nil
	}
	lower := netip.PrefixFrom(from.Addr(), from.Bits()+1)
	address := from.Addr().As4()
	address[from.Bits()/8] |= 0x80 >> (from.Bits() % 8)
	upper := netip.PrefixFrom(netip.AddrFrom4(address), from.Bits()+1)
	return append(subtract(lower, except), subtract(upper, except)...)
}

func reachable(pod *core.Pod) bool {
	address, err := netip.ParseAddr(pod.Status.PodIP)
	return err == nil && address.Is4() && !pod.Spec.HostNetwork &&
		pod.Status.Phase != core.PodSucceeded && pod.Status.Phase != core.PodFailed
}

func matches(selector *meta.LabelSelector, set labels.Set) bool {
	parsed, err := meta.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}

func named(pod *core.Pod, name string, protocol core.Protocol) int32 {
	for _, container := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, port := range container.Ports {
			if port.Name == name && port.Protocol == protocol {
				return port.ContainerPort
			}
		}
	}
	return 0
}

// own and other are the conditions for the isolated pod's address and for its peer's.
func own(direction networking.PolicyType) string {
	if direction == networking.PolicyTypeIngress {
		return "-d"
	}
	return "-s"
}

func other(direction networking.PolicyType) string {
	if direction == networking.PolicyTypeIngress {
		return "-s"
	}
	return "-d"
}
