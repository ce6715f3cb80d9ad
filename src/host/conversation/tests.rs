use super::*;

#[test]
fn one_caller_never_takes_all_places_and_gives_its_own_back() {
    let by_caller = Arc::default();
    let chat = Client::module("chat").unwrap();
    let places: Vec<Place> = (0..MAX_CALLS_OF_ONE)
        .map(|under_way| Place::take(under_way, &by_caller, chat.clone()).unwrap())
        .collect();
    let refused = Place::take(places.len(), &by_caller, chat.clone()).err().unwrap();
    assert!(
        refused.contains("busy") && refused.contains("module chat"),
        "{refused}"
    );
    let other = Place::take(places.len(), &by_caller, Client::module("other").unwrap()).unwrap();
    drop(places);
    Place::take(0, &by_caller, chat).unwrap();
    drop(other);
    assert!(
        lock(&by_caller).is_empty(),
        "nobody is remembered who has no call under way"
    );
}

#[test]
fn beyond_all_places_everybody_is_refused() {
    let refused = Place::take(MAX_CALLS, &Arc::default(), Client::module("chat").unwrap())
        .err()
        .unwrap();
    assert!(refused.starts_with("busy"), "{refused}");
}
