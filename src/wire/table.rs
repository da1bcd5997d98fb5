//! The table of all encapsulations: a line for each.

/// Hands the table to the macro of this name, line by line: `Variant = "label", module;` with a
/// comment above. The module has the decapsulator. Behind it stands what a listener for it is
/// called and the ports that are usual for it, where it comes over UDP.
macro_rules! encapsulations {
    ($use:ident) => {
        $use! {
            /// VXLAN (RFC 7348). Port 8472 is that of Linux from before the standard; 10800 and
            /// 10801 are those of Azure's Gateway Load Balancer.
            #[default]
            Vxlan = "vxlan", vxlan, over UDP "vxlan" [4789, 8472, 10800, 10801];
            /// VXLAN with a next protocol (draft-ietf-nvo3-vxlan-gpe).
            Gpe = "gpe", gpe, over UDP "gpe" [4790];
            /// GENEVE (RFC 8926).
            Geneve = "geneve", geneve, over UDP "geneve" [6081];
            /// GRE (RFC 2784 and RFC 2890), over UDP as RFC 8086 has it.
            Gre = "gre", gre, over UDP "gre-udp" [4754];
            /// NVGRE (RFC 7637): GRE with a key that has a VNI.
            Nvgre = "nvgre", gre;
            /// ERSPAN, types I to III (draft-foschiano-erspan): GRE of a mirroring switch.
            Erspan = "erspan", gre;
            /// TZSP, the sniffers' protocol of MikroTik and others.
            Tzsp = "tzsp", tzsp, over UDP "tzsp" [37008];
        }
    };
}

pub(super) use encapsulations;
