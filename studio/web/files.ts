// Reads the files that lie beside the page.

/** The content of a file. Those called .bin are compressed with gzip, unless the server has unpacked them already. */
export async function read(address: string | URL): Promise<ArrayBuffer> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} is missing (${response.status}): export again.`);
  const packed = await response.arrayBuffer();
  const [first, second] = new Uint8Array(packed, 0, Math.min(packed.byteLength, 2));
  if (first !== 0x1f || second !== 0x8b) return packed;
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}
