//! An output tells whether it can write.

use super::faults::ENOSPC;
use super::*;

#[test]
fn an_output_that_cannot_write_says_so_as_long_as_that_can_be_told() {
    let mut rig = rig(|_| ());
    let tick = |rig: &mut Rig, later: u64| {
        rig.sink.next_sweep = Instant::now();
        rig.sink.tick(Instant::now() + Duration::from_secs(later), Timestamp::now());
        rig.sink.shared.condition.trouble().map(|why| why.split(" in ").next().unwrap().to_owned())
    };
    rig.frames(30, 100);
    rig.flush();
    assert_eq!(tick(&mut rig, 0), None);
    rig.storage.faults().write = Some((0, ENOSPC));
    rig.frames(3, 100);
    rig.flush();
    let full = Some("there is no room for captures".to_owned());
    assert_eq!(tick(&mut rig, 0), full);
    assert_eq!(tick(&mut rig, 9), full);
    assert_eq!(tick(&mut rig, 12), None, "nothing has come since, and nobody can say whether it lasts");
    rig.retry_now();
    rig.frames(3, 100);
    rig.flush();
    assert_eq!(tick(&mut rig, 0), full);
    rig.storage.faults().write = None;
    rig.retry_now();
    rig.frames(3, 100);
    rig.flush();
    assert_eq!(tick(&mut rig, 0), full, "a full disk takes a little now and then");
    assert_eq!(tick(&mut rig, 4), None, "and by now it would have been full again");
}

#[test]
fn one_session_that_fails_is_no_trouble_while_another_is_written() {
    let mut rig = rig(|_| ());
    let trouble = |rig: &mut Rig| {
        rig.flush();
        rig.sink.next_sweep = Instant::now();
        rig.sink.tick(Instant::now(), Timestamp::now());
        rig.sink.shared.condition.trouble().is_some()
    };
    rig.send(&[(7, 1, 100), (8, 2, 100)]);
    assert!(!trouble(&mut rig));
    rig.storage.faults().write = Some((0, libc::EPERM));
    rig.send(&[(7, 3, 100)]);
    assert!(trouble(&mut rig), "nothing was written since");
    rig.storage.faults().write = None;
    rig.send(&[(8, 4, 100)]);
    assert!(!trouble(&mut rig));
    rig.assert_closes();
}
