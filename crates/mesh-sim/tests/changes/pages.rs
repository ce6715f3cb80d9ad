//! What a person sees of the network, page by page.

use mesh_core::announcement::{Announcement, Body, Head, ListedNeighbour};
use mesh_core::limits::ANNOUNCEMENT_LIFETIME;
use mesh_core::message::{ControlMessage, Price, RoutingUpdate};
use mesh_sim::LinkSpec;

use super::*;

#[test]
fn all_nodes_are_shown_exactly_once_with_the_neighbours_they_have_whatever_the_size_of_a_page() {
    let links = grid(5, 4);
    let mut sim = network(1, 20, &links);
    for most in [1, 3, 7, 20, 256] {
        let nodes = picture(&mut sim, n(3), most);
        let ids: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
        let everybody: BTreeSet<_> = sim.all_nodes().map(|node| sim.id(node)).collect();
        assert_eq!((nodes.len(), ids), (20, everybody));
        for shown in &nodes {
            let index = sim.all_nodes().find(|node| sim.id(*node) == shown.id).unwrap();
            let mut expected: Vec<_> = links
                .iter()
                .filter(|(a, b)| *a == index.0 || *b == index.0)
                .map(|(a, b)| sim.id(n(a + b - index.0)))
                .collect();
            expected.sort();
            let listed: Vec<_> = shown.neighbours.iter().map(|listed| listed.node).collect();
            assert_eq!(listed, expected);
        }
    }
}

#[test]
fn quiet_network_is_shown_in_full_for_hours() {
    let mut sim = network(2, 6, &ring(6));
    for half_hour in 0..8 {
        sim.run_for(30 * MINUTE);
        let now = sim.now().unix;
        let nodes = picture(&mut sim, n(0), 4);
        assert_eq!(nodes.len(), 6, "after {half_hour} half hours");
        assert!(nodes.iter().all(|node| node.expires > now));
        let found = paths_of(discover_afresh(&mut sim, n(0), n(3)));
        assert_eq!(found.len(), 2);
    }
    routes_are_the_best(&sim, &[]);
}

#[test]
fn node_that_never_announces_itself_keeps_its_place_in_its_own_picture() {
    let mut sim = network(4, 6, &ring(6));
    let shy = sim.add_node(NodeSpec::unannounced(5));
    sim.connect(shy, n(0), LinkSpec::default());
    sim.run_for(3 * 60 * MINUTE);
    assert_eq!(picture(&mut sim, shy, 20).len(), 7);
    assert_eq!(picture(&mut sim, n(1), 20).len(), 6);
    assert_eq!(discover_afresh(&mut sim, shy, n(3)).len(), 2);
}

#[test]
fn who_lists_neighbours_that_do_not_list_him_has_none() {
    let mut sim = network(3, 6, &ring(6));
    let liar = sim.add_villain();
    sim.connect(liar, n(2), LinkSpec::default());
    sim.run_for(SECOND);
    let mut neighbours: Vec<_> = (0..6)
        .map(|node| ListedNeighbour {
            node: sim.id(n(node)),
            cost: 1,
        })
        .collect();
    neighbours.sort();
    let price = Price {
        msat_per_unit: 0,
        payable: true,
    };
    let body = Body {
        price,
        operator: None,
        addresses: Vec::new(),
        neighbours,
    };
    let body = body.encode().unwrap();
    let expires = sim.now().unix + ANNOUNCEMENT_LIFETIME;
    let head = Head::sign(1, expires, &body, &sim.identity(liar));
    let update = RoutingUpdate {
        number: 1,
        announcements: vec![Announcement {
            head,
            body: Some(body),
        }],
        routes: Vec::new(),
    };
    let frame = ControlMessage::RoutingUpdate(Box::new(update)).encode().unwrap();
    sim.inject(liar, n(2), frame);
    sim.run_for(TOLD);
    for viewer in 0..6 {
        let nodes = picture(&mut sim, n(viewer), 2);
        assert_eq!(nodes.len(), 7, "he is shown, since he announced himself");
        let edges: usize = nodes.iter().map(|node| node.neighbours.len()).sum();
        assert_eq!(edges, 12, "and has no edge");
        let shown = nodes.iter().find(|node| node.id == sim.id(liar)).unwrap();
        assert_eq!(shown.neighbours, []);
        let id = sim.command(n(viewer), Command::Network { after: None, most: 1 });
        let Some(Ok(Answer::Network(page))) = sim.take_answer(id) else {
            panic!("no page");
        };
        assert_eq!((page.total_nodes, page.total_links), (7, 6));
    }
}
