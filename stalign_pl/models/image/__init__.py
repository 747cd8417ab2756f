"""The image streams: timm backbones, frozen or trained in part."""
