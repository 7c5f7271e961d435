//! The kernel program: gives the frames that are ours to the socket of their interface.
//!
//! Fails closed: what is ours and finds no socket is dropped, so that pods are cut off, not
//! opened, while the daemon is away. Only an uplink leaves frames to the host's stack, and only
//! those that [`owner`] says are the host's.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    btf_maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, XskMap, lpm_trie::Key},
    helpers::bpf_xdp_load_bytes,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use core::mem::MaybeUninit;
use xdp_redirect::{
    Counter, DATAGRAMS_MAX, Datagram, EGRESS_MAX, FRONTENDS_MAX, Frame, Frontend, InterfaceKind,
    InterfaceSlot, NOT_OURS, OURS, Ours, Owner, PREFIXES_MAX, PortRange, SLOTS_MAX, owner,
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
static FRONTENDS: HashMap<Frontend, u32, { FRONTENDS_MAX as usize }> = HashMap::new();

#[btf_map]
static EGRESS: HashMap<[u8; 16], PortRange, { EGRESS_MAX as usize }> = HashMap::new();

#[btf_map]
static DATAGRAMS: LruHashMap<Datagram, u32, { DATAGRAMS_MAX as usize }> = LruHashMap::new();

#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::COUNT }> = PerCpuArray::new();

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
        match owner(&Buffers(&ctx), &Maps) {
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

/// The buffers of a frame; what it begins with lies in the first.
struct Buffers<'a>(&'a XdpContext);

impl Frame for Buffers<'_> {
    #[inline(always)]
    fn head<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.0.data();
        if start + offset + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the bytes lie before data_end, as just checked; an array of bytes needs no
        // alignment.
        Some(unsafe { *((start + offset) as *const [u8; N]) })
    }

    // The helper checks the bounds, which the verifier would have to prove of a direct read: with
    // an offset out of the frame that hangs on how the compiler orders the additions.
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the kernel handed the context, and writes N bytes or none.
        let result = unsafe {
            bpf_xdp_load_bytes(
                self.0.ctx,
                offset as u32,
                bytes.as_mut_ptr().cast(),
                N as u32,
            )
        };
        if result != 0 {
            return None;
        }
        // SAFETY: all bytes were just written.
        Some(unsafe { bytes.assume_init() })
    }
}

/// What the daemon wrote into the maps.
struct Maps;

impl Ours for Maps {
    #[inline(always)]
    fn has_v4(&self, address: [u8; 4]) -> bool {
        is_ours(OURS_V4.get(&Key::new(32, address)))
    }

    #[inline(always)]
    fn has_v6(&self, address: [u8; 16]) -> bool {
        is_ours(OURS_V6.get(&Key::new(128, address)))
    }

    #[inline(always)]
    fn has_frontend(&self, frontend: &Frontend) -> bool {
        // SAFETY: the program never changes the map, and reads the value at once.
        is_ours(unsafe { FRONTENDS.get(frontend) })
    }

    #[inline(always)]
    fn egress_ports(&self, address: &[u8; 16]) -> Option<PortRange> {
        // SAFETY: the program never changes the map, and copies the value out at once.
        unsafe { EGRESS.get(address) }.copied()
    }

    #[inline(always)]
    fn note(&self, datagram: &Datagram, is_ours: bool) {
        // Without room, or with nothing to forget, later fragments are the host's: by doubt.
        let _ = if is_ours {
            DATAGRAMS.insert(datagram, OURS, 0)
        } else {
            DATAGRAMS.remove(datagram)
        };
    }

    #[inline(always)]
    fn has_datagram(&self, datagram: &Datagram) -> bool {
        // SAFETY: values never change, and this one is read at once.
        is_ours(unsafe { DATAGRAMS.get(datagram) })
    }
}

#[inline(always)]
fn is_ours(value: Option<&u32>) -> bool {
    !matches!(value, None | Some(&NOT_OURS))
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
