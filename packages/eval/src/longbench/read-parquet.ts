import { fileError, messageOf } from '../errors.js';

/**
 * The rows of a parquet file, uncompressed or with Snappy pages (which is what the Hub writes).
 *
 * @throws AccelError ERR_ACCEL_FILE
 */
export async function readParquet(path: string): Promise<unknown[]> {
  try {
    const { asyncBufferFromFile, parquetReadObjects } = await import('hyparquet');
    return await parquetReadObjects({ file: await asyncBufferFromFile(path) });
  } catch (error) {
    throw fileError(
      `Cannot read ${path} as parquet: ${messageOf(error)}. Get the file again.`,
      error,
    );
  }
}
