package load

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

// Command runs a load and prints, each second, who answered.
func Command(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	var config Config
	config.Flags(flags)
	file := flags.String("lost", "", "file for the lost requests, one JSON object a line")
	asJSON := flags.Bool("json", false, "print the summary as JSON, and nothing else")
	_ = flags.Parse(arguments)
	report, err := Watched(ctx, config, func(line string) {
		if !*asJSON {
			fmt.Printf("%s  %s\n", time.Now().Format("15:04:05"), line)
		}
	})
	if err != nil {
		return err
	}
	if *file != "" {
		if err := WriteLost(*file, report.Lost()); err != nil {
			return err
		}
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(report.Summary())
	}
	report.Summary().Write(os.Stdout)
	return nil
}

// Watched runs a load, and says each second what was answered.
func Watched(ctx context.Context, config Config, say func(string)) (*Report, error) {
	report, lock, ended := NewReport(), sync.Mutex{}, make(chan error, 1)
	go func() {
		ended <- Run(ctx, config, func(result Result) {
			lock.Lock()
			defer lock.Unlock()
			report.Add(result)
		})
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return report, err
		case <-tick.C:
			lock.Lock()
			line := report.Second()
			lock.Unlock()
			say(line)
		}
	}
}

// WriteLost writes lost requests, one JSON object a line.
func WriteLost(path string, lost []Result) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(file)
	for _, result := range lost {
		if err := encoder.Encode(result); err != nil {
			file.Close()
			return err
		}
	}
	return file.Close()
}
