//! The kernel program: gives the frames that are ours to the socket of their interface.
//!
//! Fails closed: what is ours and finds no socket is dropped, so that pods are cut off, not
//! opened, while the daemon is away. Only an uplink leaves frames to the host's stack, and only
//! those that are not for our prefixes.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    btf_maps::{HashMap, LpmTrie, PerCpuArray, XskMap, lpm_trie::Key},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use xdp_redirect::{
    Counter, DESTINATION_OFFSET_V4, DESTINATION_OFFSET_V6, ETHERNET_LENGTH, ETHERTYPE_OFFSET,
    ETHERTYPE_V4, ETHERTYPE_V6, InterfaceKind, InterfaceSlot, NOT_OURS, PREFIXES_MAX, SLOTS_MAX,
};

#[btf_map]
static INTERFACES: HashMap<u32, InterfaceSlot, { SLOTS_MAX as usize }> = HashMap::new();

#[btf_map]
static SOCKETS: XskMap<{ SLOTS_MAX as usize }> = XskMap::new();

#[btf_map]
static OURS_V4: LpmTrie<[u8; 4], u32, { PREFIXES_MAX as usize }> = LpmTrie::new();

#[btf_map]
static OURS_V6: LpmTrie<[u8; 16], u32, { PREFIXES_MAX as usize }> = LpmTrie::new();

#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::COUNT }> = PerCpuArray::new();

/// Whose a frame on the uplink is.
enum Owner {
    Us,
    Host,
    Unreadable,
}

/// `frags`: frames of several buffers come too, as pods' segments of 64 KB are.
#[xdp(frags)]
pub fn redirect(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel hands a valid xdp_md.
    let interface = unsafe { (*ctx.ctx).ingress_ifindex };
    // SAFETY: the program never changes the map, and copies the value out at once.
    let Some(InterfaceSlot { slot, kind }) = unsafe { INTERFACES.get(interface) }.copied() else {
        return end(Counter::InterfaceUnknown, XDP_DROP);
    };
    if kind == InterfaceKind::Uplink as u32 {
        match owner(&ctx) {
            Owner::Us => {}
            Owner::Host => return end(Counter::Passed, XDP_PASS),
            Owner::Unreadable => return end(Counter::Unreadable, XDP_DROP),
        }
    }
    // Without a socket in the slot the second argument is the verdict.
    match SOCKETS.redirect(slot, XDP_DROP.into()) {
        Ok(action) => end(Counter::Redirected, action),
        Err(_) => end(Counter::NoSocket, XDP_DROP),
    }
}

/// Judges by the destination address alone; ARP, neighbour discovery to the host's own addresses,
/// multicast and tagged frames stay the host's.
#[inline(always)]
fn owner(ctx: &XdpContext) -> Owner {
    let Some(ethertype) = read::<2>(ctx, ETHERTYPE_OFFSET) else {
        return Owner::Unreadable;
    };
    let value = match u16::from_be_bytes(ethertype) {
        ETHERTYPE_V4 => match read::<4>(ctx, ETHERNET_LENGTH + DESTINATION_OFFSET_V4) {
            Some(address) => OURS_V4.get(&Key::new(32, address)),
            None => return Owner::Unreadable,
        },
        ETHERTYPE_V6 => match read::<16>(ctx, ETHERNET_LENGTH + DESTINATION_OFFSET_V6) {
            Some(address) => OURS_V6.get(&Key::new(128, address)),
            None => return Owner::Unreadable,
        },
        _ => None,
    };
    match value.copied() {
        None | Some(NOT_OURS) => Owner::Host,
        Some(_) => Owner::Us,
    }
}

/// Reads `N` bytes at `offset` of the first buffer, or None past its end.
#[inline(always)]
fn read<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<[u8; N]> {
    let start = ctx.data();
    if start + offset + N > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes lie before data_end, as just checked; an array of bytes needs no alignment.
    Some(unsafe { *((start + offset) as *const [u8; N]) })
}

/// Counts a frame and gives its verdict.
#[inline(always)]
fn end(counter: Counter, action: u32) -> u32 {
    if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's own, and XDP does not nest on one CPU.
        unsafe { *count += 1 };
    }
    action
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_redirect_map is for programs under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
