// Signs for buttons, drawn here so that they look the same with every font.

const SHAPES = {
  play: <path d="M5 3.2v9.6L13 8z" fill="currentColor" stroke="none" />,
  stop: <rect x="4" y="4" width="8" height="8" rx="1" fill="currentColor" stroke="none" />,
  back: <path d="M4 3.5v9M12.5 3.8v8.4L6 8z" fill="currentColor" />,
  loop: <path d="M3 8a5 5 0 0 1 8.6-3.4M13 8a5 5 0 0 1-8.6 3.4M11.9 1.8v3h-3M4.1 14.2v-3h3" />,
  undo: <path d="M3 6.5h6.5a3.2 3.2 0 0 1 0 6.5H7M5.8 3.6 3 6.5l2.8 2.9" />,
  redo: <path d="M13 6.5H6.5a3.2 3.2 0 0 0 0 6.5H9M10.2 3.6 13 6.5l-2.8 2.9" />,
  close: <path d="m4 4 8 8M12 4l-8 8" />,
  moon: <path d="M13 9.6A5.5 5.5 0 0 1 6.4 3a5.5 5.5 0 1 0 6.6 6.6z" />,
  sun: (
    <path d="M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M13 3l-1.1 1.1M4.1 11.9 3 13" />
  ),
  less: <path d="M3.5 8h9" />,
  more: <path d="M3.5 8h9M8 3.5v9" />,
  lock: <path d="M4 7.5h8v5.5H4zM5.5 7.5V5.3a2.5 2.5 0 0 1 5 0v2.2" />,
} as const;

export function Icon({ name }: { name: keyof typeof SHAPES }) {
  return (
    <svg
      class="sign"
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {SHAPES[name]}
    </svg>
  );
}
