import { Device } from './device.js';
import { dtypeIndex, type DType } from './dtype.js';
import { native, putShape } from './native.js';
import { Resource } from './resource.js';
import { Tensor } from './tensor.js';

/**
 * A file mapped into memory. Its tensors need no copy and keep the mapping alive. The file must not be shortened while
 * it is mapped.
 */
export class MappedFile extends Resource {
  readonly byteLength: number;

  private constructor(id: number) {
    super(id);
    this.byteLength = native().fileSize(id);
  }

  /** @throws AccelError `ERR_ACCEL_FILE` when there is no such regular file or it cannot be read */
  static open(path: string): MappedFile {
    return new MappedFile(native().fileOpen(path));
  }

  /**
   * A tensor of the CPU that starts at `byteOffset`. Data that is not aligned to its element size is copied. Writing to
   * the tensor never changes the file.
   * @throws AccelError `ERR_ACCEL_FILE` when the file ends before the tensor does
   */
  tensor(dtype: DType, shape: readonly number[], byteOffset: number): Tensor {
    const device = Device.open('cpu');
    const id = native().fileTensor(
      this.id,
      device.index,
      dtypeIndex(dtype),
      putShape(shape),
      byteOffset,
    );
    return new Tensor(device, id, dtype, shape.slice());
  }

  /**
   * A copy of bytes `[offset, offset + length)`, less than 4 GiB.
   * @throws AccelError `ERR_ACCEL_FILE` when the file ends before
   */
  bytes(offset: number, length: number): Uint8Array {
    return new Uint8Array(native().fileBytes(this.id, offset, length));
  }
}
