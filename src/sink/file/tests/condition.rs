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
    let trouble = |rig: &mut Rig, later: u64| {
        rig.sink.next_sweep = Instant::now();
        rig.sink.tick(Instant::now() + Duration::from_secs(later), Timestamp::now());
        rig.sink.shared.condition.trouble().is_some()
    };
    // Nobody has looked between what was written last and the failure.
    rig.send(&[(7, 1, 100), (8, 2, 100)]);
    rig.flush();
    let fail = |rig: &mut Rig| {
        rig.storage.faults().write = Some((0, libc::EPERM));
        rig.retry_now();
        rig.send(&[(7, 3, 100)]);
        rig.flush();
        rig.storage.faults().write = None;
    };
    fail(&mut rig);
    assert!(!trouble(&mut rig, 0), "others may write meanwhile");
    assert!(trouble(&mut rig, 3), "none does");
    rig.send(&[(8, 4, 100)]);
    rig.flush();
    assert!(!trouble(&mut rig, 3));
    fail(&mut rig);
    assert!(!trouble(&mut rig, 0), "the other was written since the failure before");
    fail(&mut rig);
    assert!(trouble(&mut rig, 3), "and since this one it was not");
    rig.assert_closes();
}
