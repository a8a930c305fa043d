//! The minimum of RFC 6455 for a stream: the handshake, a number ten times a second, and an echo of every text.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Serves a connection whose upgrade request was just read, until the peer leaves or `stopping` returns true.
pub fn talk(reader: &mut impl Read, stream: &TcpStream, key: &str, stopping: fn() -> bool) -> io::Result<()> {
    let accept = BASE64_STANDARD.encode(sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    say(&writer, head.as_bytes())?;
    let ticking = Arc::clone(&writer);
    thread::spawn(move || {
        let _ = tick(&ticking, stopping); // the peer may have left
        let _ = ticking.lock().expect("no holder panics").shutdown(Shutdown::Both);
    });
    loop {
        let (kind, payload) = read_frame(reader)?;
        match kind {
            TEXT => say(&writer, &frame(TEXT, &payload))?,
            PING => say(&writer, &frame(PONG, &payload))?,
            CLOSE => {
                say(&writer, &frame(CLOSE, &payload))?;
                return stream.shutdown(Shutdown::Both);
            }
            _ => {}
        }
    }
}

fn say(writer: &Mutex<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    writer.lock().expect("no holder panics").write_all(bytes)
}

fn tick(writer: &Mutex<TcpStream>, stopping: fn() -> bool) -> io::Result<()> {
    for count in 0.. {
        if stopping() {
            break;
        }
        say(writer, &frame(TEXT, format!("tick {count}").as_bytes()))?;
        thread::sleep(Duration::from_millis(100));
    }
    say(writer, &frame(CLOSE, &1001u16.to_be_bytes())) // 1001: going away
}

/// A complete frame from the server, which never masks.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | kind];
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => bytes.push(short),
        _ => {
            bytes.push(126);
            bytes.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// Reads a frame from the client, which always masks. Frames over 64 KiB are refused.
fn read_frame(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut long = [0; 2];
            reader.read_exact(&mut long)?;
            usize::from(u16::from_be_bytes(long))
        }
        127 => return Err(io::Error::other("a frame of more than 64 KiB")),
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    reader.read_exact(&mut mask)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head[0] & 0x0f, payload))
}

/// SHA-1, which the handshake requires; no security depends on it.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 } - 8, 0);
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words: Vec<u32> =
            block.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect();
        for i in 16..80 {
            words.push((words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.into_iter().enumerate() {
            let (mix, key) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(mix).wrapping_add(e).wrapping_add(key).wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        state.iter_mut().zip([a, b, c, d, e]).for_each(|(sum, part)| *sum = sum.wrapping_add(part));
    }
    let mut digest = [0; 20];
    digest.chunks_exact_mut(4).zip(state).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
    digest
}
