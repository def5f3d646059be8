//! Where networks are trained.

use burn::backend::{Autodiff, Flex};
#[cfg(feature = "tch")]
use burn::backend::{LibTorch, libtorch::LibTorchDevice};
use burn::tensor::backend::AutodiffBackend;
use clap::ValueEnum;

use crate::augment::Transforms;
use crate::kernels::Kernels;
use crate::loss::Losses;

/// Where a network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The first GPU where the program is built for GPUs and there is one, else the CPU.
    Auto,
    /// CPU, all cores (burn-flex).
    Cpu,
    /// First NVIDIA GPU through CubeCL.
    #[cfg(feature = "cuda")]
    Cuda,
    /// CPU through LibTorch.
    #[cfg(feature = "tch")]
    Tch,
    /// First NVIDIA GPU through LibTorch.
    #[cfg(feature = "tch")]
    TchCuda,
}

/// A device was asked for that this host does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "device {device}: CUDA finds no GPU on this host; use auto or cpu, or an instance with a GPU"
)]
pub struct NoSuchDevice {
    device: &'static str,
}

/// A device that is there, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    device: Device,
    gpus: usize,
}

/// Work that is generic over the backend that does it.
pub trait OnDevice {
    /// What comes of it.
    type Output;

    /// Does the work on a device of backend `B`.
    fn run<B>(self, device: &B::Device) -> Self::Output
    where
        B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses;
}

impl Device {
    /// Looks whether the device is there; [`Device::Auto`] becomes one that is.
    ///
    /// # Errors
    /// [`NoSuchDevice`] for a GPU where CUDA finds none.
    pub fn choose(self) -> Result<Chosen, NoSuchDevice> {
        let gpus = match self {
            Self::Cpu => 0,
            #[cfg(feature = "tch")]
            Self::Tch => 0,
            _ => gpus(),
        };
        let device = match self {
            Self::Auto => automatic(gpus),
            #[cfg(feature = "cuda")]
            Self::Cuda if gpus == 0 => return Err(NoSuchDevice { device: "cuda" }),
            // LibTorch counts its own GPUs, and says what is amiss with them.
            other => other,
        };
        Ok(Chosen { device, gpus })
    }
}

impl Chosen {
    /// Does work there.
    pub fn run<W: OnDevice>(self, work: W) -> W::Output {
        match self.device {
            Device::Auto | Device::Cpu => work.run::<Autodiff<Flex>>(&Default::default()),
            #[cfg(feature = "cuda")]
            Device::Cuda => work.run::<Autodiff<burn::backend::Cuda>>(&Default::default()),
            #[cfg(feature = "tch")]
            Device::Tch => work.run::<Autodiff<LibTorch>>(&LibTorchDevice::Cpu),
            #[cfg(feature = "tch")]
            Device::TchCuda => work.run::<Autodiff<LibTorch>>(&LibTorchDevice::Cuda(0)),
        }
    }
}

/// The device in words, and how many GPUs stand idle beside it.
impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.device {
            Device::Auto | Device::Cpu => "the CPU",
            #[cfg(feature = "cuda")]
            Device::Cuda => "GPU 0 through CubeCL",
            #[cfg(feature = "tch")]
            Device::Tch => "the CPU through LibTorch",
            #[cfg(feature = "tch")]
            Device::TchCuda => "GPU 0 through LibTorch",
        })?;
        if self.gpus > 1 {
            write!(
                f,
                "; CUDA finds {} GPUs on this host, and one of them is used: a run does not spread over several",
                self.gpus
            )?;
        }
        Ok(())
    }
}

#[cfg(feature = "cuda")]
fn automatic(gpus: usize) -> Device {
    if gpus > 0 { Device::Cuda } else { Device::Cpu }
}

#[cfg(not(feature = "cuda"))]
fn automatic(_gpus: usize) -> Device {
    Device::Cpu
}

/// How many GPUs CUDA finds.
#[cfg(feature = "cuda")]
fn gpus() -> usize {
    use burn::tensor::backend::Backend;

    // The backend panics where there is no driver, and says so on stderr: an ordinary host is not to look broken.
    let driver = ["/dev/nvidiactl", "/dev/dxg"];
    if !driver
        .iter()
        .any(|path| std::path::Path::new(path).exists())
    {
        return 0;
    }
    std::panic::catch_unwind(|| <burn::backend::Cuda as Backend>::device_count(0)).unwrap_or(0)
}

/// A program that is not built for CUDA does not ask it.
#[cfg(not(feature = "cuda"))]
fn gpus() -> usize {
    0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_device_is_always_found() {
        let chosen = Device::Auto.choose().unwrap();
        assert_ne!(chosen.device, Device::Auto);
        let cpu = Device::Cpu.choose().unwrap();
        assert_eq!(cpu.to_string(), "the CPU");
    }

    #[test]
    fn idle_gpus_are_told_of() {
        let several = Chosen {
            device: Device::Cpu,
            gpus: 4,
        };
        assert!(several.to_string().contains("4 GPUs on this host, and one"));
    }
}
