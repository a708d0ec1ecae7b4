package dockerd2013

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/images"
	"docker2013/rcli"
)

// CmdCp gives an image's layers a second name, as in 2013; or it copies files out
// of a container or into one, as a tar on a standard stream, as docker has done
// since 2014. Which of the two is meant, the arguments say: CONTAINER:/PATH.
func (d *Daemon) CmdCp(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "cp")
	follow := f.Bool("L", false, "Follow a symbolic link at the end of PATH")
	top := f.String("from", "", "The tar is of one file or folder of this name, to be called PATH; NAME/. is its content")
	if err := f.parse(2, 2); err != nil {
		return err
	}
	from, fromPath, isFrom := placeIn(f.Arg(0))
	to, toPath, isTo := placeIn(f.Arg(1))
	switch {
	case isFrom && f.Arg(1) == "-":
		ctr, err := d.find(from)
		if err != nil {
			return err
		}
		return ctr.WithView(ctx, func(root string) error {
			return d.files(ctx, ctr, root, fileOrder{Do: "out", Path: fromPath, Follow: *follow}, nil, c.Stdout)
		})
	case isTo && f.Arg(0) == "-":
		ctr, err := d.find(to)
		if err != nil {
			return err
		}
		return ctr.WithView(ctx, func(root string) error {
			return d.files(ctx, ctr, root, fileOrder{Do: "in", Path: toPath, Top: *top}, c.Stdin, io.Discard)
		})
	case isFrom || isTo:
		return rcli.Exitf(rcli.StatusOurs, "cp: the daemon copies to and from standard streams: say cp CONTAINER:/PATH - or cp - CONTAINER:/PATH")
	}
	img, err := d.Images.Copy(f.Arg(0), f.Arg(1))
	if errors.Is(err, images.ErrNotFound) {
		return noSuch("image", f.Arg(0))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Stdout, img.Id)
	return err
}

// placeIn understands CONTAINER:/PATH. An image's name is none, with its hash
// neither, nor is the address of one.
func placeIn(s string) (ctr, file string, ok bool) {
	ctr, file, ok = strings.Cut(s, ":")
	return ctr, file, ok && ctr != "" && !strings.Contains(ctr, "/") && strings.HasPrefix(file, "/") && !strings.HasPrefix(file, "//")
}

// copyOut writes a file or folder as a tar whose first entry it is. PATH/. is a
// folder's content alone.
func copyOut(ctx context.Context, root, name string, follow bool, w io.Writer) error {
	clean := path.Clean("/" + name)
	if clean == "/" || strings.HasSuffix(name, "/.") {
		dir, err := container.OpenFolder(root, clean)
		if err != nil {
			return err
		}
		defer dir.Close() // a name for it only
		return container.WriteEntry(ctx, dir, ".", "", w)
	}
	base := path.Base(clean)
	parent, entry := path.Dir(clean), base
	if follow {
		var err error
		if parent, entry, err = resolve(root, parent, entry); err != nil {
			return err
		}
	}
	dir, err := container.OpenFolder(root, parent)
	if err != nil {
		return err
	}
	defer dir.Close() // a name for it only
	err = container.WriteEntry(ctx, dir, entry, base, w)
	if errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	}
	return err
}

// resolve follows the links that a name may be one of, as many as the kernel would.
// What it returns is a folder and one name in it; of the root that is ".".
func resolve(root, parent, entry string) (string, string, error) {
	for range 40 {
		dir, err := container.OpenFolder(root, parent)
		if err != nil {
			return "", "", err
		}
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(dir.Fd()), entry, buf)
		_ = dir.Close() // a name for it only
		if err != nil { // it is no link
			return parent, entry, nil
		}
		target := string(buf[:n])
		if !path.IsAbs(target) {
			target = path.Join(parent, target)
		}
		target = path.Clean(target)
		if target == "/" {
			return "/", ".", nil
		}
		parent, entry = path.Dir(target), path.Base(target)
	}
	return "", "", &os.PathError{Op: "open", Path: path.Join(parent, entry), Err: unix.ELOOP}
}

// copyIn unpacks a tar into a container. With top it is of that one file or folder,
// and means what cp(1) and docker mean: into PATH if that is a folder, else as PATH.
func copyIn(ctx context.Context, root string, o fileOrder, r io.Reader) error {
	name, top := o.Path, o.Top
	dir, err := container.OpenFolder(root, name)
	if top == "" {
		if err != nil {
			return err
		}
		defer dir.Close() // a name for it only
		return images.Unpack(ctx, r, fdPath(dir), o.Limits)
	}
	content := strings.HasSuffix(top, "/.")
	kind, as := copied, ""
	switch {
	case err == nil && !content:
		as = path.Base(top)
	case errors.Is(err, unix.ENOTDIR):
		kind = copiedFile
		if content {
			kind = copiedNothing
		}
	case errors.Is(err, unix.ENOENT) && strings.HasSuffix(name, "/"):
		kind = copiedFolder
	case err != nil && !errors.Is(err, unix.ENOENT):
		return err
	}
	if err != nil { // PATH is what it will be called
		as = path.Base(name)
		if dir, err = container.OpenFolder(root, path.Dir(path.Clean(name))); err != nil {
			return err
		}
	}
	defer dir.Close() // a name for it only
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(renameTop(pw, r, as, kind)) }()
	defer pr.Close()
	return images.Unpack(ctx, pr, fdPath(dir), o.Limits)
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// copiedKind is what may be copied to a place.
type copiedKind int

const (
	copied        copiedKind = iota
	copiedFile               // a file is there
	copiedFolder             // nothing is there, and its name ends in a slash
	copiedNothing            // a file is there, and a folder's content comes
)

// renameTop passes a tar on with another name for its first entry, of which all
// others are part; "" is the folder that it is unpacked in.
func renameTop(w io.Writer, r io.Reader, as string, kind copiedKind) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	top := ""
	for first := true; ; first = false {
		hdr, err := in.Next()
		if err == io.EOF {
			return errors.Join(out.Close(), drain(r))
		}
		if err != nil {
			return err
		}
		name := path.Clean(hdr.Name)
		if first {
			top = name
			isDir := hdr.Typeflag == tar.TypeDir
			switch {
			case kind == copiedNothing, kind == copiedFile && isDir:
				return errors.New("a folder can't be copied onto a file")
			case kind == copiedFolder && !isDir:
				return errors.New("there is no such folder: leave out the slash at its end to give the file that name")
			}
		}
		hdr.Name = renamed(name, top, as)
		if hdr.Typeflag == tar.TypeDir {
			hdr.Name += "/"
		}
		if hdr.Typeflag == tar.TypeLink {
			hdr.Linkname = renamed(path.Clean(hdr.Linkname), top, as)
		}
		if err := out.WriteHeader(hdr); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

func renamed(name, top, as string) string {
	if top != "." {
		name = strings.TrimPrefix(strings.TrimPrefix(name, top), "/")
	}
	return "./" + path.Join(as, name)
}

// drain reads what follows a tar's end, so that who writes it isn't stopped.
func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
